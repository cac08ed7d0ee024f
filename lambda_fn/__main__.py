"""`python -m lambda_fn app:server`: the same service as plain gRPC and as HTTP, side by side on two ports, without
Lambda.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any


class WrongUse(Exception):
    """What was asked for is not there; the text says what."""


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 after SIGTERM or Ctrl-C, 1 if it cannot serve, 2 for wrong use."""
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    sys.path.insert(0, os.curdir)
    try:
        server = load(chosen.server)
    except WrongUse as problem:
        sys.stderr.write(f"lambda_fn: {problem}\n")
        return 2
    try:
        server.serve(chosen.grpc, http=chosen.http or None, grace=chosen.grace)
    except (RuntimeError, ValueError) as problem:
        from lambda_fn.plain_http import CannotListen

        if not isinstance(problem, (CannotListen, ValueError)):
            raise
        sys.stderr.write(f"lambda_fn: {problem}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lambda_fn",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # leaves the example on one line
        description="Serve a LambdaServer as plain gRPC and as HTTP (REST, gRPC-Web, Connect) on two ports.",
        epilog="example: python -m lambda_fn app:server --grpc 0.0.0.0:50051 --http 0.0.0.0:8080",
    )
    parser.add_argument(
        "server", metavar="MODULE[:NAME]", help="where the LambdaServer is; without NAME it is `server`"
    )
    parser.add_argument(
        "--grpc", metavar="HOST:PORT", default="0.0.0.0:50051", help="where plain gRPC is served [%(default)s]"
    )
    parser.add_argument(
        "--http",
        metavar="HOST:PORT",
        default="0.0.0.0:8080",
        help="where HTTP/1.1 is served; '' turns it off [%(default)s]",
    )
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        type=float,
        default=30.0,
        help="how long calls in flight may go on after SIGTERM [%(default)s]",
    )
    return parser


def load(name: str) -> Any:
    """Return the LambdaServer of this name. Raises WrongUse, and whatever its module raises while it loads."""
    module_name, _, attribute = name.partition(":")
    attribute = attribute or "server"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # One that the module itself fails to import is the module's own trouble, with its traceback.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise WrongUse(f"there is no module {error.name!r} in {Path.cwd()} or on the path") from None
    except ValueError as error:
        raise WrongUse(f"{name!r} is no MODULE:NAME, as in app:server") from error
    try:
        server = getattr(module, attribute)
    except AttributeError:
        raise WrongUse(f"module {module_name!r} has no attribute {attribute!r}") from None
    from lambda_fn.server import LambdaServer

    if not isinstance(server, LambdaServer):
        raise WrongUse(f"{module_name}:{attribute} is a {type(server).__name__}, not a LambdaServer")
    return server


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
