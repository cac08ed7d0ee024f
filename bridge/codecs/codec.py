"""Codec: one payload format, from a gathered call to the body that a backend gets, and from its reply to response
events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from bridge.rpc.buffers import Account
from bridge.rpc.events import ResponseEvent
from bridge.rpc.metadata import Metadata, value_of
from bridge.rpc.value import FrozenValue

Encode = Callable[[str, str, bytes], bytes]
"""From the path of a call, the client's message format, and the call's body to the body for the backend. The call's
body is whole, checked and not compressed. Raises UnsupportedCall, UnknownMethod, MalformedRequest.
"""

Convert = Callable[[str, bytes, Account], Awaitable[bytes]]
"""From the path of a call and what `encode` made of its body to the body for the backend, which the account holds
then.
"""


class ReplyOptions(FrozenValue, frozen=True):
    """What a reader of a reply knows of its call."""

    path: str
    message_format: str
    """The client's subtype."""
    metadata: Metadata
    """As the target was sent it."""
    max_response: int | None
    """Bytes of one message."""
    account: Account | None = None
    """The call's. It counts what is inflated or converted."""

    @property
    def accept_encoding(self) -> str | None:
        """The encodings that the target knows the client to read."""
        return value_of(self.metadata, "grpc-accept-encoding")


class BodyReader(Protocol):
    """Reads one reply: `feed` it the body in any chunks, then `convert`, then `finish`. The events and the outcome do
    not depend on the chunks.

    All raise RpcError for a reply that cannot be read.
    """

    @property
    def wants_more(self) -> bool:
        """Whether more of the body can change the outcome."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether bytes that were fed wait to be inflated. Feed it b"" until it is not, in other turns of the loop: one
        `feed` does a bounded amount of work.
        """
        ...

    @property
    def has_ended(self) -> bool:
        """Whether the call's end has come, so that the body should be over."""
        ...

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message."""
        ...

    def open(self) -> list[ResponseEvent]:
        """Return the Headers, if they can leave before any of the body has come: for replies that are streamed."""
        ...

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Return the events that these bytes complete."""
        ...

    @property
    def convert(self) -> Callable[[], Awaitable[None]] | None:
        """What must be done between the last `feed` and `finish`, once, and may take long. None: nothing, as for most
        formats.
        """
        ...

    def finish(self) -> list[ResponseEvent]:
        """Return the last events of the reply, Trailers at their end."""
        ...


class Codec(Protocol):
    """One payload format."""

    @property
    def encode(self) -> Encode | None:
        """What makes the body for the backend. None: the body of a call is such a body already. Formats that make one
        carry no compressed messages.
        """
        ...

    @property
    def convert(self) -> Convert | None:
        """What must still be done to the body that `encode` returns, and may take long. None: nothing, as for most
        formats.
        """
        ...

    def reader(self, http_status: int, headers: Metadata, options: ReplyOptions) -> BodyReader:
        """For the reply to one call. `headers`: names in lower case."""
        ...

    def read(
        self, http_status: int, headers: Metadata, body: bytes, options: ReplyOptions
    ) -> list[ResponseEvent] | BodyReader:
        """Read a reply that is whole. Returns its events, or a reader for the body: if reading it may take long, or may
        fail.
        """
        ...
