"""What a protocol is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lambda_fn.http import HttpRequest
from lambda_fn.rpc import IncomingCall, Responder


class Protocol(NamedTuple):
    """One way to carry a gRPC call over HTTP."""

    content_type: str
    """What to tell those who sent another."""
    matches: Callable[[HttpRequest], bool]
    responder: Callable[[HttpRequest], Responder]
    """Never fails: it also carries the refusal of a request that does not decode."""
    decode: Callable[[HttpRequest, int | None], IncomingCall]
    """From a request, and the largest message in bytes (None: any). Raises Refused."""
