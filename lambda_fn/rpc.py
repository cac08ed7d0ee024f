"""The gRPC vocabulary of the function side: what protocols decode into and encode from. No I/O, no clock, no grpc
import.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lambda_fn.http import HttpReply, Peer

Metadata = tuple[tuple[str, str | bytes], ...]
"""Names in lower case; values of names in `-bin` are bytes, all others text."""

# The codes of gRPC's statuscodes.md that this package gives by itself.
OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13

IDENTITY = "identity"


class Status(NamedTuple):
    """How a call ended."""

    code: int
    message: str = ""


class Refused(Exception):
    """The request cannot be served. The error carries the status that says why."""

    def __init__(self, code: int, message: str, trailing: Metadata = ()) -> None:
        super().__init__(message)
        self.status = Status(code, message)
        self.trailing = trailing


class Unannounced(Refused):
    """A message is flagged as compressed where no compression is named: INTERNAL, in gRPC and in Connect."""

    def __init__(self) -> None:
        super().__init__(INTERNAL, "a message is flagged as compressed, and grpc-encoding names no compression")


class CutOff(Exception):
    """A streamed body ends early, because its protocol has no form for how the call ended."""


class IncomingCall(NamedTuple):
    """A call as a protocol decoded it."""

    method: str
    """`/package.Service/Method`."""
    metadata: Metadata
    messages: Iterator[bytes]
    """The request messages, plain; inflated one at a time. Raises Refused."""
    timeout: float | None
    """Seconds that the caller gives the call."""
    accepted: frozenset[str]
    """Compressions that the caller reads."""
    peer: Peer
    undecodable: int | None = None
    """The code of a call whose servicer cannot read a message; None: as grpcio has it."""


class Responder(Protocol):
    """The reply side of a protocol, for one call."""

    @property
    def can_stream(self) -> bool:
        """Whether the head may leave before the call's end is known."""
        ...

    @property
    def needs_message(self) -> bool:
        """Whether the head depends on the first message."""
        ...

    def message(self, data: bytes, compression: str) -> bytes:
        """One reply message as it travels in the body. Raises Refused for one that the protocol cannot carry."""
        ...

    def head(self, initial: Metadata, compression: str) -> HttpReply:
        """Return the reply's head, before anything is known of its end. Its body is empty."""
        ...

    def end(self, status: Status, trailing: Metadata) -> bytes:
        """Return the last bytes of a body whose head has left. Raises CutOff."""
        ...

    def whole(self, reply: WholeReply) -> HttpReply:
        """Return a reply of which everything is known."""
        ...


class WholeReply(NamedTuple):
    """A call's reply, complete."""

    status: Status
    trailing: Metadata = ()
    initial: Metadata | None = None
    """None: neither initial metadata nor a message was sent."""
    compression: str = IDENTITY
    messages: tuple[bytes, ...] = ()
    """As `Responder.message` made them."""
    is_unknown: bool = False
    """Whether there was no handler for the method."""


def reply_too_large(size: int, limit: int) -> Status:
    """Return the status in place of a reply of `size` bytes or more, where `limit` are taken."""
    return Status(
        RESOURCE_EXHAUSTED,
        f"the reply is {size} bytes or more, the limit of this invocation {limit}, base64 included",
    )
