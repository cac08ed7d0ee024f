"""The open streams of one connection to a server, and what the server has said so far about opening more."""

from __future__ import annotations

from bridge.http2 import frames
from bridge.http2.client_sender import ClientSender, ClientStream
from bridge.http2.events import ErrorCode
from bridge.http2.faults import protocol_fault
from bridge.http2.frames import MAX_STREAM_ID, SETTINGS


class ResponseFault(Exception):
    """One stream is over because the server broke a rule on it. It never leaves the engine."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str, *, is_too_large: bool = False) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason
        """The rule, in the engine's words."""
        self.is_too_large = is_too_large
        """The rule is the engine's own limit on header lists."""


class StreamTable:
    """What both halves of the engine know: what it reads, and what it sends."""

    __slots__ = (
        "_sender",
        "by_id",
        "expected",
        "has_settings",
        "is_going_away",
        "late_room",
        "max_streams",
        "next_id",
        "peer_max_header_list",
    )

    def __init__(self, sender: ClientSender) -> None:
        self._sender = sender
        self.by_id: dict[int, ClientStream] = {}
        """All streams that have begun and not ended."""
        self.next_id = 1
        """The id of the stream that is opened next."""
        self.late_room = 0
        """Bytes that may still arrive on ended streams. The server learns later that we gave one up. A server that
        sends bytes after a stream's end must not harm other streams.
        """
        self.expected: int | None = SETTINGS
        """The only frame type that may come next."""
        self.has_settings = False
        """Whether the server's first SETTINGS have arrived."""
        self.is_going_away = False
        """Whether GOAWAY was received or sent. No stream can be opened then."""
        self.max_streams = MAX_STREAM_ID
        """How many streams the server takes at once."""
        self.peer_max_header_list: int | None = None
        """The server's SETTINGS_MAX_HEADER_LIST_SIZE, if it sent one."""

    def end(self, stream_id: int, stream: ClientStream) -> None:
        """End the server's side, and with it the call. The server does not want the rest of it (RFC 9113 8.1)."""
        if not stream.is_half_closed:
            self._sender.out.append(frames.rst_stream(stream_id, ErrorCode.NO_ERROR))
        self.late_room += max(0, stream.window_in)
        self.forget(stream_id)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Abandon the stream, if it is open."""
        stream = self.forget(stream_id)
        if stream is not None:
            self.late_room += max(0, stream.window_in)
            self._sender.out.append(frames.rst_stream(stream_id, code))

    def forget(self, stream_id: int) -> ClientStream | None:
        """Remove the stream and what waits on it. Returns None if it was over."""
        stream = self.by_id.pop(stream_id, None)
        if stream is not None:
            self._sender.drop(stream_id, stream)
        return stream

    def refuse_idle(self, stream_id: int) -> None:
        """Raise for a stream that we never opened. A server opens none, because push is off."""
        if stream_id >= self.next_id or not stream_id & 1:
            raise protocol_fault("a frame for a stream that was never opened")
