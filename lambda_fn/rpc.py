"""The gRPC vocabulary of the function side: what protocols decode into and encode from. No I/O, no clock, no grpc
import.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from lambda_fn.http import HttpReply, Peer
from lambda_fn.status import RESOURCE_EXHAUSTED, Metadata, Status

IDENTITY = "identity"


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
