"""What a protocol makes of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lambda_fn.http import HttpReply
from lambda_fn.rpc import IncomingCall, Responder
from lambda_fn.status import INTERNAL, INVALID_ARGUMENT, Refused, Unannounced


class Exchange(NamedTuple):
    """A request whose protocol is known, and how it is going to be answered."""

    responder: Responder
    """Never fails: it also carries the refusal of a request that does not decode."""
    decode: Callable[[int | None], IncomingCall]
    """The call, given the largest message in bytes (None: any). Raises Refused."""


Accepted = Exchange | HttpReply | None
"""None: the request speaks another protocol. A reply: it speaks this one, and in a way that HTTP itself has a status
for.
"""


def callers_fault(
    decode: Callable[[int | None], IncomingCall],
) -> Callable[[int | None], IncomingCall]:
    """Return the same, for protocols with an HTTP status: what cannot be read is 400. gRPC has INTERNAL for most of it,
    which would be 500.
    """

    def decode_request(max_message: int | None) -> IncomingCall:
        try:
            incoming = decode(max_message)
        except Refused as refusal:
            raise _callers(refusal) from refusal
        return incoming._replace(messages=_read_each(incoming.messages), undecodable=INVALID_ARGUMENT)

    return decode_request


def _read_each(messages: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from messages
    except Refused as refusal:
        raise _callers(refusal) from refusal


def _callers(refusal: Refused) -> Refused:
    if isinstance(refusal, Unannounced):
        return refusal
    code, message = refusal.status
    return Refused(INVALID_ARGUMENT if code == INTERNAL else code, message, refusal.trailing)


def method_of(path: str) -> str:
    """Return the last two segments: a stage or a base path of API Gateway may stand before them."""
    return "/" + "/".join(path.split("/")[-2:])
