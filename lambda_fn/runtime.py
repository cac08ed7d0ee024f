"""The Lambda runtime for Python functions: `python -m lambda_fn.runtime app.handler`.

Takes invocations from the Runtime API, calls the handler, sends back what it returns. The local Lambda runs functions
with it; on AWS it stands in for the managed runtime where replies are to be streamed (an image's command, or
AWS_LAMBDA_EXEC_WRAPPER in a zip). The handler is `module.attribute`, from the argument or _HANDLER; a `/` in it counts
as a dot. It may be a coroutine function.

With AWS_LAMBDA_MAX_CONCURRENCY, as on Lambda Managed Instances, `concurrent_runtime` serves that many invocations at
once.

Only what a call needs is imported: no asyncio unless the handler is async, no grpc unless the function brings it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from lambda_fn.runtime_api import RuntimeApi, RuntimeApiError
from lambda_fn.runtime_logs import RuntimeLog
from lambda_fn.runtime_loop import OneAtATime, Runtime, load_or_fail

MAX_CONCURRENCY = "AWS_LAMBDA_MAX_CONCURRENCY"
"""Set on Lambda Managed Instances: how many invocations the instance gets at the same time."""
_LARGEST_CONCURRENCY = 1600
"""As AWS allows for PerExecutionEnvironmentMaxConcurrency."""


def concurrency_in(environment: Mapping[str, str]) -> int | None:
    """How many invocations to take at the same time; None: one (no Managed Instances). Raises ValueError."""
    text = environment.get(MAX_CONCURRENCY)
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= _LARGEST_CONCURRENCY:
        raise ValueError(f"{MAX_CONCURRENCY} is {text[:40]!r}: set it to a number from 1 to {_LARGEST_CONCURRENCY}")
    return int(text)


def main(arguments: list[str]) -> int:
    """Run the handler named by the argument or _HANDLER. The exit code: 1 if it cannot be loaded or the Runtime API is
    gone.
    """
    name = arguments[0] if arguments else os.environ.get("_HANDLER", "")
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not name or not address:
        sys.stderr.write("usage: AWS_LAMBDA_RUNTIME_API=HOST:PORT python -m lambda_fn.runtime MODULE.HANDLER\n")
        return 2
    try:
        concurrency = concurrency_in(os.environ)
    except ValueError as problem:
        sys.stderr.write(f"lambda_fn.runtime: {problem}\n")
        return 2
    log = RuntimeLog.set_up(os.environ, keeps_lines_whole=concurrency is not None)
    sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT") or str(os.curdir))
    api = RuntimeApi(address)
    try:
        handler = load_or_fail(name, log, api)
        if handler is None:
            return 1
        if concurrency is None:
            Runtime(api, handler, OneAtATime(log)).run()
        else:
            from lambda_fn.concurrent_runtime import serve_many

            serve_many(address, handler, log, concurrency)
            return 1
    except RuntimeApiError as error:
        sys.stderr.write(f"lambda_fn.runtime: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        api.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
