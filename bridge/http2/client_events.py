"""What the client's engine reports of its connection and its streams."""

from __future__ import annotations

from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    Fields,
    PingAcknowledged,
    StreamReset,
    WindowOpened,
)
from bridge.rpc.value import FrozenValue


class ConnectionReady(FrozenValue, frozen=True):
    """The server's first SETTINGS have arrived, so it speaks HTTP/2 and its limits are known."""


class CapacityChanged(FrozenValue, frozen=True):
    """The server has changed how many streams it takes at once."""


class ResponseReceived(FrozenValue, frozen=True):
    """The header block that opens a response. Interim responses (1xx) are left out."""

    stream_id: int
    fields: Fields
    """Well-formed fields, with exactly one `:status` in front."""
    ended: bool
    """Nothing follows (END_STREAM)."""


class TrailersReceived(FrozenValue, frozen=True):
    """The header block that ends a response."""

    stream_id: int
    fields: Fields


class StreamFailed(FrozenValue, frozen=True):
    """The server broke a rule on this stream, and the engine has reset it."""

    stream_id: int
    reason: str
    """The rule, in the engine's words."""
    is_too_large: bool = False
    """The rule is the engine's own limit on header lists."""


class StreamNotProcessed(FrozenValue, frozen=True):
    """GOAWAY says that the server has not processed this stream and never will (RFC 9113 6.8)."""

    stream_id: int


class GoingAway(FrozenValue, frozen=True):
    """The server accepts no more streams on this connection. Those that it has begun go on."""

    code: int
    reason: bytes
    """The debug text from the server."""


ClientEvent = (
    ConnectionReady
    | CapacityChanged
    | ResponseReceived
    | DataReceived
    | TrailersReceived
    | StreamReset
    | StreamFailed
    | StreamNotProcessed
    | WindowOpened
    | GoingAway
    | PingAcknowledged
    | ConnectionFailed
)
