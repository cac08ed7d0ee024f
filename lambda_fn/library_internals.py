"""Private names and English texts of grpcio. No other module of lambda_fn uses any.

Releases of grpcio may change them without notice, so `tests/function/test_library_internals.py` asks the installed
release for each one. Tried with grpcio 1.85.1 and 1.80.0; `pyproject.toml` sets the upper bound. Release 1.80.0 says
only "Stream removed" of headers that it cannot read, so their status passes unchanged there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc

_NO_CONNECTION = ("failed to connect to all addresses", "DNS resolution failed", "errors resolving ")
"""How grpcio begins the text of a status that it made itself, because there was no connection."""

_UNREADABLE_HEADERS = ("Stream removed (Error parsing", "Error parsing")
"""The same for a reply whose headers it could not read."""


def handlers_within(generic: grpc.GenericRpcHandler) -> Iterable[grpc.RpcMethodHandler[Any, Any]]:
    """Return the methods of a handler that `grpc.method_handlers_generic_handler` made.

    Other handlers show their methods only call by call: for them there is nothing.
    """
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = getattr(generic, "_method_handlers", {})
    return methods.values()


def loop_of(server: grpc.aio.Server) -> asyncio.AbstractEventLoop:
    """Return the event loop that was current when the server was made. The server works on that loop only."""
    loop: asyncio.AbstractEventLoop = server._loop  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public name for it
    return loop


def tells_of_no_connection(code: grpc.StatusCode, details: str) -> bool:
    """Tell whether grpcio itself made this status, because it could not connect."""
    return code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NO_CONNECTION)


def tells_of_unreadable_headers(code: grpc.StatusCode, details: str) -> bool:
    """Tell whether grpcio itself made this status, because the reply had a header that gRPC does not allow."""
    return code is grpc.StatusCode.INTERNAL and details.startswith(_UNREADABLE_HEADERS)
