"""The client side of one HTTP/2 connection (RFC 9113). It turns bytes into events, and commands into bytes. A malformed
reply ends only its own stream, because other calls share the connection. A fault of the connection itself (framing,
header compression, windows) ends it. So does a server that sends too many frames without content.

The engine knows neither gRPC nor the transport, so it works over any connection to a server.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.http2 import frames
from bridge.http2.client_control import ControlReceiver
from bridge.http2.client_events import ClientEvent, StreamFailed
from bridge.http2.client_limits import ClientLimits, Patience
from bridge.http2.client_responses import ResponseReceiver
from bridge.http2.client_sender import ClientSender, ClientStream
from bridge.http2.client_streams import ResponseFault, StreamTable
from bridge.http2.events import ConnectionFailed, ErrorCode, Fields, ViolationKind
from bridge.http2.faults import ConnectionFault, protocol_fault
from bridge.http2.frames import CONTINUATION, HEAD_SIZE, MAX_STREAM_ID, SMALLEST_MAX_FRAME, parse_head
from bridge.http2.preface import PREFACE

MAX_FRAME_IN = SMALLEST_MAX_FRAME
"""The largest payload that the server may send (bytes): the protocol's default."""


class ClientEngine:
    """`now` is the monotonic time in seconds. Nothing here raises for what the server does. A stream may end between
    two calls, so commands for one that is over are ignored, and after ConnectionFailed all of them are.
    """

    __slots__ = (
        "_by_id",
        "_control",
        "_is_over",
        "_partial",
        "_patience",
        "_receivers",
        "_responses",
        "_sender",
        "_stream_window",
        "_streams",
    )

    def __init__(self, limits: ClientLimits) -> None:
        self._stream_window = limits.stream_window
        self._partial = b""
        self._is_over = False
        self._sender = ClientSender()
        self._streams = StreamTable(self._sender)
        self._by_id = self._streams.by_id
        self._patience = Patience(limits, self._sender)
        self._responses = responses = ResponseReceiver(limits, self._streams, self._sender, self._patience)
        self._control = control = ControlReceiver(self._streams, self._sender, self._patience)
        # By frame type, up to CONTINUATION. None of them refers to the engine, which would delay its release.
        self._receivers = (
            responses.receive_data,
            responses.receive_headers,
            control.receive_priority,
            responses.receive_rst_stream,
            control.receive_settings,
            control.receive_push_promise,
            control.receive_ping,
            control.receive_goaway,
            control.receive_window_update,
            responses.receive_continuation,
        )
        self._sender.out += (
            PREFACE,
            frames.settings(
                {
                    frames.ENABLE_PUSH: 0,
                    frames.INITIAL_WINDOW_SIZE: limits.stream_window,
                    frames.MAX_HEADER_LIST_SIZE: limits.max_header_list,
                }
            ),
            frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW),
        )

    @property
    def open_streams(self) -> Collection[int]:
        """The ids of all streams that have begun and not ended."""
        return self._by_id.keys()

    @property
    def has_settings(self) -> bool:
        """Whether the server's first SETTINGS have arrived."""
        return self._streams.has_settings

    @property
    def is_going_away(self) -> bool:
        """Whether GOAWAY was received or sent. No stream can be opened then."""
        return self._streams.is_going_away

    @property
    def peer_max_header_list(self) -> int | None:
        """The server's SETTINGS_MAX_HEADER_LIST_SIZE, if it sent one."""
        return self._streams.peer_max_header_list

    @property
    def capacity(self) -> int:
        """How many more streams may be opened now. 0 until the server's SETTINGS are known."""
        streams = self._streams
        if not streams.has_settings or self._is_over or streams.is_going_away:
            return 0
        return min(streams.max_streams - len(self._by_id), (MAX_STREAM_ID - streams.next_id) // 2)

    @property
    def max_streams(self) -> int:
        """How many streams the server takes at once."""
        return self._streams.max_streams

    @property
    def last_stream(self) -> int:
        """The id of the stream that was opened last. It is below 1 if no stream was opened."""
        return self._streams.next_id - 2

    @property
    def has_output(self) -> bool:
        return bool(self._sender.out)

    @property
    def queued_bytes(self) -> int:
        """Body bytes that wait for the server's windows."""
        return self._sender.queued_bytes

    def is_open(self, stream_id: int) -> bool:
        """Whether the stream has not ended."""
        return stream_id in self._by_id

    # -- bytes in ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, *, now: float) -> list[ClientEvent]:
        """Take bytes in any chunking and return what happened. Answers that need no decision are queued."""
        if self._is_over:
            return []
        if self._partial:
            data = self._partial + data
        events: list[ClientEvent] = []
        self._patience.now = now
        try:
            at = self._receive_frames(data, events)
        except ConnectionFault as fault:
            self._end_connection(fault, events)
            return events
        self._partial = data[at:]
        return events

    def _receive_frames(self, data: bytes, events: list[ClientEvent]) -> int:
        """Take the whole frames. Returns where the first incomplete one begins."""
        at, end, receivers, streams = 0, len(data), self._receivers, self._streams
        while end - at >= HEAD_SIZE:
            high, low, kind, flags, stream_id = parse_head(data, at)
            size = high << 8 | low
            if streams.expected is not None and kind != streams.expected:
                raise protocol_fault(_misplaced(streams.expected, data[at : at + HEAD_SIZE]))
            if size > MAX_FRAME_IN:
                reason = f"a frame of {size} bytes, limit {MAX_FRAME_IN}"
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, ViolationKind.FRAME_SIZE, reason)
            start = at + HEAD_SIZE
            if end - start < size:
                break
            at = start + size
            try:
                if kind <= CONTINUATION:
                    receivers[kind](flags, stream_id & MAX_STREAM_ID, data[start:at], events)
                else:
                    self._patience.charge()
            except ResponseFault as fault:
                self._fail_stream(fault, events)
        return at

    def _end_connection(self, fault: ConnectionFault, events: list[ClientEvent]) -> None:
        self.goaway(fault.code, fault.reason.encode("ascii", "replace"))
        self._is_over = True
        self._by_id.clear()
        self._sender.clear()
        self._partial = b""
        self._responses.forget_block()
        events.append(ConnectionFailed(fault.code, fault.reason))

    def _fail_stream(self, fault: ResponseFault, events: list[ClientEvent]) -> None:
        self._patience.charge()
        if fault.stream_id in self._by_id:
            events.append(StreamFailed(fault.stream_id, fault.reason, fault.is_too_large))
            self._streams.reset(fault.stream_id, fault.code)

    # -- credit --------------------------------------------------------------------------------------------------------

    def credit(self, stream_id: int, size: int) -> bool:
        """Let the server send as many more body bytes as the reader took. Ended streams are allowed. Returns False if
        nothing was queued: small credits are collected.
        """
        stream = self._by_id.get(stream_id)
        return stream is not None and self._responses.credit(stream_id, stream, size)

    # -- bytes out -----------------------------------------------------------------------------------------------------

    def bytes_to_send(self) -> bytes:
        """Return everything queued, once. After a ConnectionFailed it ends with GOAWAY and the reason."""
        return self._sender.take()

    def open(self, fields: Fields, *, ended: bool = False) -> int:
        """Begin a stream with these fields (pseudo-headers first, values clean) and return its id. Call it only while
        `capacity` is above 0.
        """
        assert self.capacity > 0, "no stream may be opened"
        streams = self._streams
        stream_id = streams.next_id
        streams.next_id = stream_id + 2
        stream = self._by_id[stream_id] = ClientStream(self._stream_window)
        stream.is_half_closed = ended
        self._sender.send_head(stream_id, fields, ended=ended)
        return stream_id

    def send_data(self, stream_id: int, data: bytes) -> bool:
        """Queue body bytes. Returns False while some of them wait for the server's windows. `receive` then reports
        WindowOpened later.
        """
        stream = self._by_id.get(stream_id)
        if stream is None or stream.is_half_closed or stream.ends:
            return True
        if data:
            self._sender.send_body(stream_id, stream, data)
        return not stream.pending

    def end(self, stream_id: int) -> None:
        """End our side of the stream, behind what is queued on it."""
        stream = self._by_id.get(stream_id)
        if stream is None or stream.is_half_closed:
            return
        if stream.pending:
            stream.ends = True
        else:
            self._sender.send_end(stream_id, stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Abandon the stream. No event comes for it."""
        self._streams.reset(stream_id, code)

    def ping(self, data: bytes) -> None:
        """Queue a PING with these 8 bytes."""
        if not self._is_over:
            self._control.ping(data)

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: bytes = b"") -> None:
        """Tell the server that the connection ends. A server opens no streams, so the last stream id is 0."""
        if not self._is_over:
            self._streams.is_going_away = True
            self._sender.out.append(frames.goaway(0, code, reason))


_HTTP1 = b"HTTP/1."


def _misplaced(expected: int, head: bytes) -> str:
    if expected == CONTINUATION:
        return "a header block that another frame interrupts"
    return "it answers in HTTP/1.1" if head.startswith(_HTTP1) else "the first frame is not SETTINGS"
