"""Says what a frame means on a stream in each state (RFC 9113 5.1), as a table. It also holds the data kept for each
open stream.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

import msgspec

from bridge.http2 import frames
from bridge.http2.events import ErrorCode, ViolationKind
from bridge.rpc.chunks import keep
from bridge.rpc.value import FrozenValue


class State(Enum):
    """A stream's state as the server sees it. Half-closed (local) is missing, because we reset a stream that we end
    first (RFC 9113 8.1).
    """

    # Enum's own hash is a slow Python function, and every frame looks up its stream's state. Members are singletons, so
    # their id will do.
    __hash__ = object.__hash__

    IDLE = auto()
    OPEN = auto()
    HALF_CLOSED = auto()
    """The client's side is closed: its END_STREAM has arrived."""
    RESET = auto()
    """We closed it before the client did. Frames that the client sent before it knew may still arrive."""
    CLOSED = auto()
    """The client ended or reset it, so it knows that the stream is closed."""


class Ruling(FrozenValue, frozen=True):
    """What happens to a frame that is out of place. A frame in its place has no entry."""

    code: ErrorCode
    kind: ViolationKind
    ends_connection: bool = False


IGNORED = Ruling(ErrorCode.NO_ERROR, ViolationKind.STREAM_CLOSED)
_NOT_BEGUN = Ruling(ErrorCode.PROTOCOL_ERROR, ViolationKind.PROTOCOL, ends_connection=True)
_ENDED = Ruling(ErrorCode.STREAM_CLOSED, ViolationKind.STREAM_CLOSED)
_NEVER_AGAIN = Ruling(ErrorCode.STREAM_CLOSED, ViolationKind.STREAM_CLOSED, ends_connection=True)

RULINGS: dict[State, dict[int, Ruling | None]] = {
    State.IDLE: {
        frames.HEADERS: None,
        frames.DATA: _NOT_BEGUN,
        frames.RST_STREAM: _NOT_BEGUN,
        frames.WINDOW_UPDATE: _NOT_BEGUN,
    },
    State.OPEN: {
        frames.HEADERS: None,  # trailers
        frames.DATA: None,
        frames.RST_STREAM: None,
        frames.WINDOW_UPDATE: None,
    },
    State.HALF_CLOSED: {
        frames.HEADERS: _ENDED,
        frames.DATA: _ENDED,
        frames.RST_STREAM: None,
        frames.WINDOW_UPDATE: None,
    },
    State.RESET: {
        frames.HEADERS: IGNORED,
        frames.DATA: IGNORED,
        frames.RST_STREAM: IGNORED,
        frames.WINDOW_UPDATE: IGNORED,
    },
    State.CLOSED: {
        # A stream id must not be used again (5.1.1). A late frame of another kind is only dropped.
        frames.HEADERS: _NEVER_AGAIN,
        frames.DATA: _ENDED,
        frames.RST_STREAM: IGNORED,
        frames.WINDOW_UPDATE: IGNORED,
    },
}


class Stream(msgspec.Struct, eq=False, gc=False):
    """One stream that has begun and not ended."""

    state: State
    window_in: int
    """Bytes that the client may still send."""
    body_left: int | None
    """Bytes of the body still to come by its content-length, if it has one."""
    begun: float
    """When the request arrived, in monotonic seconds."""
    window_gain: int = 0
    """Bytes that the client lets us send, minus the connection's initial window. So a change of that window changes no
    stream.

    The sum may be negative, after the client has shrunk its initial window (6.9.2).
    """
    uncredited: int = 0
    """Bytes consumed that no WINDOW_UPDATE has covered yet."""
    pending: deque[bytes | bytearray] | None = None
    """Body bytes that wait for the client's windows."""
    offset: int = 0
    """How many bytes of the first piece have been sent."""
    trailers: bytes | None = None
    """The block that ends the stream after these bytes."""

    def keep(self, data: bytes) -> None:
        """Body bytes have to wait."""
        pending = self.pending
        if pending is None:
            pending = self.pending = deque()
        keep(pending, data)
