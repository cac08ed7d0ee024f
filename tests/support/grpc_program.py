"""A gRPC server as a program of its own: what `forward(…, command=[python, this file, ADDRESS])` starts.

`/test.Test/Echo` repeats what comes, `/test.Test/Facts` tells its process id and environment, `/test.Test/Die` ends it
at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


def _echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


def _facts(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield str(os.getpid()).encode()
    for name in ("GRPC_SERVER_ADDRESS", "GRPC_SERVER_SOCKET", "PORT"):
        yield os.environ.get(name, "").encode()


def _die(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    os._exit(3)


def main(address: str) -> None:
    """Serve at the address until killed; an address of `exit` ends with 7, `deaf` never listens."""
    if address == "exit":
        sys.exit(7)
    if address == "deaf":
        time.sleep(60)
    handlers: dict[str, Any] = {
        name: grpc.stream_stream_rpc_method_handler(behaviour)
        for name, behaviour in {"Echo": _echo, "Facts": _facts, "Die": _die}.items()
    }
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
