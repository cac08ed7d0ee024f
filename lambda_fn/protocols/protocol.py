"""What a protocol makes of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lambda_fn.http import HttpReply
from lambda_fn.rpc import IncomingCall, Responder


class Exchange(NamedTuple):
    """A request whose protocol is known, and how it is going to be answered."""

    responder: Responder
    """Never fails: it also carries the refusal of a request that does not decode."""
    decode: Callable[[int | None], IncomingCall]
    """The call, given the largest message in bytes (None: any). Raises Refused."""


Accepted = Exchange | HttpReply | None
"""None: the request speaks another protocol. A reply: it speaks this one, and in a way that HTTP itself has a status for."""


def method_of(path: str) -> str:
    """The last two segments: a stage or a base path of API Gateway may stand before them."""
    return "/" + "/".join(path.split("/")[-2:])
