"""The interface of every engine. Only `server/connection.py` calls it. Tests drive it with bytes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from bridge.http2.events import ErrorCode, Event, Fields
from bridge.rpc.value import FrozenValue

# The most that one `receive` does. The rest waits for the next one.
BYTES_AT_ONCE = 4096
"""Frames begin to be read within so many bytes: about 450 of the smallest, or one of the largest."""
STREAMS_AT_ONCE = 20


class EngineLimits(FrozenValue, frozen=True):
    """The limits of one connection, as counts and bytes."""

    max_concurrent_streams: int = 1000
    max_header_list: int = 16 << 10
    """As RFC 9113 6.5.2 counts."""
    max_metadata: int = 100
    """Entries of one call's own metadata, without the fields that HTTP/2 and gRPC libraries send by themselves."""
    max_continuations: int = 8
    """CONTINUATION frames in one header block."""
    stream_window: int = 1 << 20
    connection_window: int = 16 << 20
    min_ping_interval: float = 10.0
    """Seconds between PINGs that a client may send without a strike (gRFC A8); the server's
    keepalive.min_client_interval.
    """
    max_settings_entries: int = 32
    """In one frame."""
    reset_burst: int = 1000
    reset_rate: float = 33.0
    """Limits at once and for each second: resetting streams, making us reset them, changing settings."""
    max_unsent_answers: int = 1000
    """PING and SETTINGS acknowledgements and RST_STREAM frames that one `bytes_to_send` may hold."""
    max_empty_data: int = 100
    """Empty DATA frames with nothing between them."""
    small_data_budget: int = 25_600
    """The budget of abuse.Budgets.small_data. It allows 1,600 DATA frames too short to carry a message."""


class Engine(Protocol):
    """One connection. `now` is the monotonic time in seconds at which the bytes arrived. Nothing here raises for what
    the peer does.

    A stream may end between two calls. Commands for one that is over are ignored, and after ConnectionFailed all of
    them are.
    """

    def receive(self, data: bytes, *, now: float) -> list[Event]:
        """Take bytes in any chunking and return what happened. Answers that need no decision are queued.

        One call does a bounded amount of work: some hundred frames, some ten new streams. The rest is kept, and
        `has_backlog` says so: then call it again, with b"" or with more bytes.
        """
        ...

    @property
    def has_backlog(self) -> bool:
        """Whether `receive` has kept bytes, or replies that may be sent. It can then go on at once."""
        ...

    def bytes_to_send(self) -> bytes:
        """Return everything queued, once. Nothing is sent before the client's preface has arrived, because it may be an
        HTTP/1 client.

        Our SETTINGS come first. After a ConnectionFailed the last bytes are GOAWAY with the reason, or
        preface.HTTP1_ANSWER.
        """
        ...

    @property
    def has_output(self) -> bool:
        """Whether `bytes_to_send` had something at the end of the last `receive`."""
        ...

    def is_open(self, stream_id: int) -> bool:
        """Whether we can still send on the stream."""
        ...

    @property
    def open_streams(self) -> Collection[int]:
        """The ids of all streams that have begun and not ended."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Bytes of messages that wait for the client's windows."""
        ...

    @property
    def has_handshaken(self) -> bool:
        """Whether the client's preface and first SETTINGS have arrived."""
        ...

    @property
    def has_open_block(self) -> bool:
        """Whether a header block has begun and not ended, also within a frame. The server limits its time, as for the
        handshake.
        """
        ...

    @property
    def peer_max_header_list(self) -> int | None:
        """The client's SETTINGS_MAX_HEADER_LIST_SIZE, if it sent one."""
        ...

    def send(self, stream_id: int, *, head: Fields = (), body: bytes = b"", end: Fields = ()) -> bool:
        """Queue a response, or the next part of one: the fields that open it, bytes of its body, the fields that end
        it. Values must be clean: no CR, LF, NUL.

        Returns False while some of the body waits for the client's window. WindowOpened follows, but not if the end is
        already queued. Only `receive` returns WindowOpened.

        The end follows the queued bytes. Alone it is the single block of a trailers-only response. RST_STREAM(NO_ERROR)
        follows it if the client has not ended its side.
        """
        ...

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Abandon the stream. No event comes for it."""
        ...

    def credit(self, stream_id: int, size: int) -> bool:
        """Let the client send as many more body bytes as the consumer took. Ended streams are allowed. Returns False if
        nothing was queued: small credits are collected.
        """
        ...

    def ping(self, data: bytes) -> None:
        """Queue a PING with these 8 bytes."""
        ...

    def announce_goaway(self, reason: bytes = b"") -> None:
        """Send the first GOAWAY of a drain, with last stream 2^31-1, so that no call is lost (RFC 9113 6.8)."""
        ...

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: bytes = b"") -> None:
        """Send the final GOAWAY. From here on, streams above the last one seen are refused."""
        ...
