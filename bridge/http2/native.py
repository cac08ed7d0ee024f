"""The bridge's own HTTP/2 engine (RFC 9113) for the server side of one connection. It turns bytes into events, and
commands into bytes.

This module checks the form of frames. streams.py says what a frame means on its stream. Header blocks are read by
hpack.py and headers.py, and abuse.py limits floods. The engine knows gRPC in only one place: a request whose header
list is too large never becomes a call. So the engine answers it, in a form that a gRPC client can read.

Nothing here raises for what the client does. A StreamFault ends one stream, a ConnectionFault the connection; both end
in events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from bridge.http2 import frames, hpack
from bridge.http2.abuse import SHORTEST_MESSAGE, Budgets
from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    Event,
    Fields,
    PingAcknowledged,
    RequestReceived,
    StreamReset,
    Violation,
    ViolationKind,
    WindowOpened,
)
from bridge.http2.faults import (
    ConnectionFault,
    StreamFault,
    flow_fault,
    protocol_fault,
    size_fault,
)
from bridge.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEAD_SIZE,
    HEADERS,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PADDED,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    frame,
    pack_head,
    pack_small_head,
    parse_head,
)
from bridge.http2.headers import HeaderList, trailers_fault
from bridge.http2.interface import BYTES_AT_ONCE, STREAMS_AT_ONCE, EngineLimits
from bridge.http2.preface import HTTP1_ANSWER, HTTP1_REASON, PREFACE, TLS_REASON, Verdict, judge
from bridge.http2.streams import IGNORED, RULINGS, State, Stream

_MAX_FRAME_IN = SMALLEST_MAX_FRAME
"""The largest payload that the client may send. It is the protocol's default."""
_REMEMBERED_RESETS = 1000
_CREDIT_SHARE = 2
"""A window is refilled when this fraction of it (one in so many) has been consumed."""

_PARTS_AT_ONCE = 64
"""Most DATA frames that leave, and streams that the client resets, in one `receive`. The rest waits for the next one.
"""

_TOO_LARGE_HEAD: Fields = (
    (":status", "431"),
    ("content-type", "application/grpc"),
    ("grpc-status", "8"),  # RESOURCE_EXHAUSTED
)

_OPEN, _HALF_CLOSED = State.OPEN, State.HALF_CLOSED
_END_OF_BOTH = END_HEADERS | END_STREAM
_WHOLE_AND_PLAIN = END_HEADERS | PADDED | HAS_PRIORITY
"""The flags that say whether a HEADERS frame is a header block and nothing else."""


class NativeEngine:
    """See interface.Engine."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_stream",
        "_budgets",
        "_connection_credit_step",
        "_data_sent",
        "_decoder",
        "_events",
        "_expected",
        "_granted_in",
        "_has_preface",
        "_head_block",
        "_head_fields",
        "_headers_sent",
        "_initial_window_out",
        "_is_over",
        "_last_accepted",
        "_last_stream",
        "_limits",
        "_max_frame_out",
        "_most_gained",
        "_now",
        "_out",
        "_partial",
        "_parts_left",
        "_pause_at",
        "_pings_sent",
        "_read",
        "_resets",
        "_responses_sent",
        "_shut",
        "_starved",
        "_stream_credit_step",
        "_streams",
        "_streams_begun",
        "_uncredited",
        "_window_in",
        "_window_out",
        "has_backlog",
        "has_handshaken",
        "has_open_block",
        "has_output",
        "peer_max_header_list",
        "queued_bytes",
    )

    def __init__(self, limits: EngineLimits) -> None:  # noqa: PLR0915 - a connection's state is what it is
        self.has_handshaken = False
        self.has_open_block = False
        self.has_backlog = self.has_output = False
        self.queued_bytes = 0
        self.peer_max_header_list: int | None = None
        self._limits = limits
        self._budgets = Budgets(limits)
        self._decoder = hpack.Decoder(max_list=limits.max_header_list, max_metadata=limits.max_metadata)
        self._streams: dict[int, Stream] = {}
        self._resets: OrderedDict[int, int] = OrderedDict()
        """Streams we reset while the client may still be sending, and how much body it may still send on each."""
        self._starved: OrderedDict[int, Stream] = OrderedDict()
        """Streams that wait for the connection's window, the longest waiting first. The window of some may have shut
        meanwhile.
        """
        self._shut: OrderedDict[int, Stream] = OrderedDict()
        """Streams that wait for their own window."""
        self._last_stream = 0
        self._last_accepted = MAX_STREAM_ID
        self._streams_begun = 0
        self._pause_at = 0
        """When this many streams have begun, the rest of the bytes waits for the next `receive`."""
        self._parts_left = 0
        """How many more DATA frames this `receive` may send, and how many more streams the client may reset in it."""
        self._now = 0.0
        self._events: list[Event] = []

        self._partial = b""
        """Bytes that arrived and are not yet part of an event."""
        self._read = 0
        """How many of them have been read."""
        self._has_preface = False
        self._is_over = False
        self._expected: int | None = SETTINGS
        """The only frame type that may come next."""
        self._block: list[bytes] = []
        """The parts of a header block that has not ended, and in front of them (below) what its HEADERS frame said."""
        self._block_flags = 0
        self._block_stream = 0

        self._window_in = limits.connection_window
        self._connection_credit_step = -(-limits.connection_window // _CREDIT_SHARE)
        self._stream_credit_step = -(-limits.stream_window // _CREDIT_SHARE)
        self._granted_in = limits.connection_window
        """The total number of bytes that the client has ever been allowed to send."""
        self._uncredited = 0
        self._window_out = frames.DEFAULT_WINDOW
        self._initial_window_out = frames.DEFAULT_WINDOW
        self._most_gained = 0
        """An upper bound on how far any open stream's window lies above the initial one."""
        self._max_frame_out = SMALLEST_MAX_FRAME
        self._data_sent = 0
        """DATA frames, a large one counting for several of the default size."""
        self._headers_sent = 0
        """Header blocks."""
        self._responses_sent = 0
        """Whole responses that left at once: one DATA frame and two header blocks, which are not counted above."""
        self._head_fields: Fields = ()
        """The fields that opened the last response, and (below) their block."""
        self._head_block = b""
        self._pings_sent = 0
        """Our PINGs that have not been answered."""
        self._out: list[bytes] = [
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
                    frames.INITIAL_WINDOW_SIZE: limits.stream_window,
                    frames.MAX_HEADER_LIST_SIZE: limits.max_header_list,
                }
            ),
            frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW),
        ]

    @property
    def open_streams(self) -> Collection[int]:
        return self._streams.keys()

    def is_open(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return stream is not None and stream.trailers is None

    # -- bytes in ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, *, now: float) -> list[Event]:
        if self._is_over:
            return []
        at = 0
        if self._partial:
            data, at = self._unread_with(data)
        events: list[Event] = []
        self._events = events
        self._now = now
        self._pause_at = self._streams_begun + STREAMS_AT_ONCE
        self._parts_left = _PARTS_AT_ONCE
        stop = at + BYTES_AT_ONCE
        try:
            if not self._has_preface:
                at = self._receive_preface(data)
                stop += at
            if self._has_preface:
                at = self._receive_frames(data, at, stop)
        except ConnectionFault as fault:
            self._end_connection(fault)
            self.has_output = True
            return events
        if self._starved:
            self._send_waiting()
        self.has_output = bool(self._out)
        if at < len(data) and (at >= stop or self._streams_begun >= self._pause_at or not self._parts_left):
            self._partial, self._read = data, at
            self.has_open_block = False  # the frame that ends the header block may have arrived
            self.has_backlog = True
            return events
        self._partial = data[at:]
        self.has_backlog = bool(self._starved) and self._window_out > 0
        self.has_open_block = self._expected == CONTINUATION or (at < len(data) and frames.begins_block(self._partial))
        return events

    def _unread_with(self, data: bytes) -> tuple[bytes, int]:
        """Return all unread bytes, with these at the end, and where the unread part begins."""
        held, at = self._partial, self._read
        self._read = 0
        return (held[at:] + data, 0) if data else (held, at)

    def _receive_frames(self, data: bytes, at: int, stop: int) -> int:
        """Take the whole frames that begin at `at` or later and before `stop`. Returns where the next one begins."""
        end, receivers, known_types = len(data), _RECEIVERS, len(_RECEIVERS)
        last = end - HEAD_SIZE + 1
        last = stop if last > stop else last  # noqa: FURB136 - min() costs three times as much
        while at < last:
            high, low, kind, flags, stream_id = parse_head(data, at)
            size = high << 8 | low
            if size > _MAX_FRAME_IN:
                reason = f"a frame of {size} bytes, limit {_MAX_FRAME_IN}"
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, ViolationKind.FRAME_SIZE, reason)
            start = at + HEAD_SIZE
            if end - start < size:
                break
            at = start + size
            if self._expected is not None and kind != self._expected:
                raise protocol_fault(_MISPLACED[self._expected])
            try:
                if kind < known_types:
                    receivers[kind](self, flags, stream_id & MAX_STREAM_ID, data[start:at])
                else:
                    self._budgets.useless_frame(self._streams_begun)
            except StreamFault as fault:
                self._end_stream(fault)
            except _Enough:
                return start - HEAD_SIZE
        return at

    def _receive_preface(self, data: bytes) -> int:
        verdict = judge(data)
        if verdict is Verdict.HTTP1:
            raise ConnectionFault(ErrorCode.HTTP_1_1_REQUIRED, ViolationKind.HTTP1, HTTP1_REASON)
        if verdict is Verdict.TLS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, ViolationKind.TLS, TLS_REASON)
        if verdict is Verdict.UNKNOWN:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, ViolationKind.NOT_HTTP2, "not HTTP/2")
        if verdict is Verdict.UNDECIDED:
            return 0
        self._has_preface = True
        return len(PREFACE)

    def _end_connection(self, fault: ConnectionFault) -> None:
        if fault.kind is ViolationKind.HTTP1:
            self._out = [HTTP1_ANSWER]
        else:
            self.goaway(fault.code, fault.reason.encode("ascii", "replace"))
        self._is_over = True
        self._streams.clear()
        self._starved.clear()
        self._shut.clear()
        self._partial = b""
        self.has_backlog = False
        self.queued_bytes = 0
        self._events.append(Violation(fault.kind))
        self._events.append(ConnectionFailed(fault.code, fault.reason))

    def _end_stream(self, fault: StreamFault) -> None:
        """Reset a stream because of the client's mistake, or because we refuse it."""
        stream_id = fault.stream_id
        if fault.kind is not None:
            self._events.append(Violation(fault.kind))
        if fault.code == ErrorCode.REFUSED_STREAM:
            self._budgets.stream_refused(self._streams_begun, self._now)
        else:
            self._budgets.reset_sent(self._streams_begun, self._now)
            self._budgets.answer_queued()
        if stream_id in self._streams:
            self._events.append(StreamReset(stream_id, fault.code, by_peer=False))
        self._reset(stream_id, fault.code)

    # -- DATA ----------------------------------------------------------------------------------------------------------

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._window_in -= size
        if self._window_in < 0:
            raise flow_fault("more DATA than the connection's window")
        if size < SHORTEST_MESSAGE and not flags & END_STREAM:
            self._budgets.small_data(size, self._granted_in - self._window_in)
        stream = self._streams.get(stream_id)
        if stream is None or stream.state is not _OPEN:
            self._credit_connection(size)
            if stream_id in self._resets:
                self._count_late(stream_id, size)
            self._judge(DATA, stream_id)
            return
        stream.window_in -= size
        if stream.window_in < 0:
            self._credit_connection(size)
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, ViolationKind.FLOW_CONTROL)
        if flags & PADDED:
            payload = _unpadded(payload)
            self.credit(stream_id, size - len(payload))
            if len(payload) < SHORTEST_MESSAGE <= size and not flags & END_STREAM:
                self._budgets.padding(len(payload), self._granted_in - self._window_in)
        ended = flags & END_STREAM != 0
        if stream.body_left is not None:
            self._count_body(stream_id, stream, len(payload), ended=ended)
        if ended:
            stream.state = _HALF_CLOSED
        self._events.append(DataReceived(stream_id, payload, ended))

    def _count_late(self, stream_id: int, size: int) -> None:
        """Accept bytes for a stream that we reset, as far as its window allowed them."""
        self._resets[stream_id] -= size
        if self._resets[stream_id] < 0:
            del self._resets[stream_id]

    def _count_body(self, stream_id: int, stream: Stream, size: int, *, ended: bool) -> None:
        """Compare the body with its content-length (RFC 9113 8.1.1)."""
        assert stream.body_left is not None
        stream.body_left -= size
        if stream.body_left < 0 or (ended and stream.body_left):
            self._credit_connection(size)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, ViolationKind.CONTENT_LENGTH)

    # -- HEADERS and CONTINUATION --------------------------------------------------------------------------------------

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._streams_begun >= self._pause_at:
            # Stop here and not after the last stream, so that a reset right after its request still ends it before its
            # call runs.
            raise _Enough
        if flags & _WHOLE_AND_PLAIN == END_HEADERS:
            self._receive_block(flags, stream_id, payload)
            return
        depends_on_itself = False
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & HAS_PRIORITY:
            if len(payload) < frames.PRIORITY_SIZE:
                raise size_fault("HEADERS")
            depends_on_itself = _dependency(payload) == stream_id
            payload = payload[frames.PRIORITY_SIZE :]
        if flags & END_HEADERS:
            self._receive_block(flags, stream_id, payload)
        else:
            self._expected = CONTINUATION
            self._block = [payload]
            self._block_flags = flags
            self._block_stream = stream_id
        if depends_on_itself:
            self._spoil(stream_id, ErrorCode.PROTOCOL_ERROR, ViolationKind.PROTOCOL)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._expected != CONTINUATION or stream_id != self._block_stream:
            raise protocol_fault("a CONTINUATION that continues nothing")
        if len(self._block) > self._limits.max_continuations:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, ViolationKind.CONTINUATIONS, "too_many_continuations")
        self._block.append(payload)
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._expected = None
            self._receive_block(self._block_flags, stream_id, block)

    def _receive_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """Take a whole header block. It is a request if the stream is new."""
        # The block is always read, because it may change the table that the next block relies on.
        decoded = self._decoder.decode(block)
        ended = flags & END_STREAM != 0
        if stream_id <= self._last_stream or not stream_id & 1:
            self._receive_later_block(stream_id, decoded, len(block), ended=ended)
            return
        self._last_stream = stream_id
        self._streams_begun += 1
        streams, limits = self._streams, self._limits
        if (
            stream_id > self._last_accepted
            or len(streams) >= limits.max_concurrent_streams
            or decoded.fault is not None
            or (ended and decoded.content_length)
        ):
            self._budgets.block_refused(max(decoded.work, len(block)), self._now)
            raise self._refusal(stream_id, decoded, ended=ended)
        stream = streams[stream_id] = Stream(
            _HALF_CLOSED if ended else _OPEN,
            limits.stream_window,
            decoded.content_length,
            self._now,
        )
        if decoded.excess:
            self._budgets.block_refused(max(decoded.work, len(block)), self._now)
            self._answer_too_large(stream_id, stream, decoded.excess)
        else:
            self._events.append(RequestReceived(stream_id, decoded.fields, ended))

    def _receive_later_block(self, stream_id: int, decoded: HeaderList, size: int, *, ended: bool) -> None:
        """Take the header block of a stream that has begun: trailers, or a fault. `size`: the block's bytes."""
        stream = self._streams.get(stream_id)
        if stream is None or decoded.excess:
            self._budgets.block_refused(max(decoded.work, size), self._now)
        if stream is not None:
            self._receive_trailers(stream_id, stream, decoded, ended=ended)
        elif stream_id & 1:
            self._judge(HEADERS, stream_id)
            self._budgets.useless_frame(self._streams_begun)
        else:
            raise protocol_fault("HEADERS on a stream that clients do not open")

    def _refusal(self, stream_id: int, decoded: HeaderList, *, ended: bool) -> StreamFault:
        """Why this request is refused."""
        if not ended:
            self._expect_late(stream_id, self._limits.stream_window)
        if stream_id > self._last_accepted:
            return StreamFault(stream_id, ErrorCode.REFUSED_STREAM, None)
        if len(self._streams) >= self._limits.max_concurrent_streams:
            return StreamFault(stream_id, ErrorCode.REFUSED_STREAM, ViolationKind.TOO_MANY_STREAMS)
        is_malformed = decoded.fault is not None
        kind = ViolationKind.MALFORMED_HEADERS if is_malformed else ViolationKind.CONTENT_LENGTH
        return StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, kind)

    def _answer_too_large(self, stream_id: int, stream: Stream, excess: str) -> None:
        """Answer a header list above the limits with HTTP 431 and a gRPC status. `excess` is the message."""
        self._events.append(Violation(ViolationKind.HEADER_LIST))
        self._budgets.answer_queued()
        self._finish(stream_id, stream, hpack.encode((*_TOO_LARGE_HEAD, ("grpc-message", excess))))

    def _receive_trailers(self, stream_id: int, stream: Stream, decoded: HeaderList, *, ended: bool) -> None:
        if stream.state is not _OPEN:
            self._judge(HEADERS, stream_id)
        is_sound = ended and not decoded.excess and decoded.flaw is None
        if not is_sound or trailers_fault(decoded.fields):
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, ViolationKind.MALFORMED_HEADERS)
        if stream.body_left:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, ViolationKind.CONTENT_LENGTH)
        stream.state = _HALF_CLOSED
        self._events.append(DataReceived(stream_id, b"", ended=True))

    # -- the other frames ----------------------------------------------------------------------------------------------

    def _receive_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Ignore PRIORITY, as RFC 9113 5.3.2 allows, but not faults in it."""
        if not stream_id:
            raise protocol_fault("PRIORITY on stream 0")
        self._budgets.useless_frame(self._streams_begun)
        if len(payload) != frames.PRIORITY_SIZE:
            self._spoil(stream_id, ErrorCode.FRAME_SIZE_ERROR, ViolationKind.FRAME_SIZE)
        if _dependency(payload) == stream_id:
            self._spoil(stream_id, ErrorCode.PROTOCOL_ERROR, ViolationKind.PROTOCOL)

    def _receive_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.UINT32.size:
            raise size_fault("RST_STREAM")
        if stream_id not in self._streams:
            self._judge(frames.RST_STREAM, stream_id)
            # python-h2 resets a stream again for each DATA frame that arrives after its reset.
            self._budgets.useless_frame(self._streams_begun, excused=self._data_sent + self._responses_sent)
            return
        if not self._parts_left:
            raise _Enough
        self._parts_left -= 1
        stream = self._forget(stream_id)
        assert stream is not None
        (code,) = frames.UINT32.unpack(payload)
        self._events.append(StreamReset(stream_id, code, by_peer=True))
        self._budgets.reset_received(self._now - stream.begun, self._streams_begun, self._now)

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_fault("SETTINGS on a stream")
        if len(payload) % frames.SETTING.size or (flags & ACK and payload):
            raise size_fault("SETTINGS")
        if flags & ACK:
            if not self.has_handshaken:
                raise protocol_fault(_MISPLACED[SETTINGS])
            self._budgets.useless_frame(self._streams_begun)
            return
        self._budgets.settings_received(len(payload) // frames.SETTING.size, self._now)
        if not self.has_handshaken:
            self.has_handshaken = True
            self._expected = None
        window = self._initial_window_out
        for setting, value in frames.SETTING.iter_unpack(payload):
            self._apply_setting(setting, value)
        self._out.append(frames.SETTINGS_ACK)
        self._budgets.answer_queued()
        if self._initial_window_out > window and self._shut:
            # Behind the acknowledgement: to the client, what comes before it still fits the former windows (RFC 9113
            # 6.5.3).
            self._starved.update(self._shut)
            self._shut.clear()
            self._send_waiting()

    def _apply_setting(self, setting: int, value: int) -> None:
        match setting:
            case frames.ENABLE_PUSH if value > 1:
                raise protocol_fault("ENABLE_PUSH that is neither 0 nor 1")
            case frames.INITIAL_WINDOW_SIZE:
                self._change_windows(value)
            case frames.MAX_FRAME_SIZE:
                if not SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                    raise protocol_fault("MAX_FRAME_SIZE out of its range")
                self._max_frame_out = value
            case frames.MAX_HEADER_LIST_SIZE:
                self.peer_max_header_list = value
            case _:  # HEADER_TABLE_SIZE needs no answer, because hpack.NO_TABLE fits any value
                pass

    def _change_windows(self, initial: int) -> None:
        """Move the window of every open stream to a new initial window, below 0 if need be (RFC 9113 6.9.2)."""
        if initial > MAX_WINDOW:
            raise flow_fault("INITIAL_WINDOW_SIZE above 2^31-1")
        self._initial_window_out = initial
        if initial + self._most_gained > MAX_WINDOW:
            # The stream with the highest window may have ended or used it, so check again. Each check costs the client
            # a WINDOW_UPDATE.
            self._most_gained = max([0, *[each.window_gain for each in self._streams.values()]])
            if initial + self._most_gained > MAX_WINDOW:
                raise flow_fault("a stream's window above 2^31-1")

    def _receive_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise protocol_fault("PUSH_PROMISE from a client")

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_fault("PING on a stream")
        if len(payload) != 8:
            raise size_fault("PING")
        if flags & ACK:
            if self._pings_sent:
                self._pings_sent -= 1
            else:
                self._budgets.useless_frame(self._streams_begun)
            self._events.append(PingAcknowledged(payload))
            return
        self._budgets.ping(self._headers_sent + self._data_sent + 3 * self._responses_sent, self._now)
        self._out.append(frame(frames.PING, ACK, 0, payload))
        self._budgets.answer_queued()

    def _receive_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Take note that the client will open no more streams. Those that it has opened go on."""
        if stream_id:
            raise protocol_fault("GOAWAY on a stream")
        if len(payload) < 8:
            raise size_fault("GOAWAY")
        self._budgets.useless_frame(self._streams_begun)

    def _receive_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.UINT32.size:
            raise size_fault("WINDOW_UPDATE")
        self._budgets.window_update(self._streams_begun, self._data_sent + self._responses_sent)
        increment = frames.UINT32.unpack(payload)[0] & MAX_WINDOW
        if not stream_id:
            self._open_connection_window(increment)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._judge(frames.WINDOW_UPDATE, stream_id)
            return
        if not increment:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, ViolationKind.PROTOCOL)
        gain = stream.window_gain = stream.window_gain + increment
        if self._initial_window_out + gain > MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, ViolationKind.FLOW_CONTROL)
        self._most_gained = max(self._most_gained, gain)
        if stream_id in self._shut and self._initial_window_out + gain > 0:
            del self._shut[stream_id]
            self._starved[stream_id] = stream
            self._send_waiting()

    def _open_connection_window(self, increment: int) -> None:
        if not increment:
            raise protocol_fault("a WINDOW_UPDATE of 0")
        self._window_out += increment
        if self._window_out > MAX_WINDOW:
            raise flow_fault("the connection's window above 2^31-1")
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send waiting bytes as the client's windows allow. Each stream sends one frame in turn, so that one long
        message does not delay the others.

        It sends as much as one `receive` may. The rest waits for the next one.
        """
        starved = self._starved
        while starved and self._window_out > 0 and self._parts_left:
            self._parts_left -= 1
            stream_id, stream = starved.popitem(last=False)
            if self._initial_window_out + stream.window_gain > 0:
                self._send_part(stream_id, stream)
            self._settle(stream_id, stream)

    # -- out of place --------------------------------------------------------------------------------------------------

    def _state_of(self, stream_id: int) -> State:
        if stream_id > self._last_stream or not stream_id & 1:
            return State.IDLE
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream.state
        return State.RESET if stream_id in self._resets else State.CLOSED

    def _judge(self, kind: int, stream_id: int) -> None:
        """Look up in the table what to do with a frame that its stream does not accept. Raises a fault, or returns to
        ignore the frame.
        """
        ruling = RULINGS[self._state_of(stream_id)][kind]
        assert ruling is not None, "a frame in its place"
        if ruling is IGNORED:
            return
        if ruling.ends_connection:
            raise ConnectionFault(ruling.code, ruling.kind, "a frame for a stream that is not open")
        raise StreamFault(stream_id, ruling.code, ruling.kind)

    def _spoil(self, stream_id: int, code: ErrorCode, kind: ViolationKind) -> None:
        """Raise the fault of a frame that is allowed on any stream. A stream that has not begun cannot be reset (RFC
        9113 5.1).
        """
        if self._state_of(stream_id) is State.IDLE:
            raise ConnectionFault(code, kind, "a wrong frame for a stream that has not begun")
        raise StreamFault(stream_id, code, kind)

    # -- credit --------------------------------------------------------------------------------------------------------

    def credit(self, stream_id: int, size: int) -> bool:
        if self._is_over:
            return False
        self._uncredited = uncredited = self._uncredited + size
        is_told = uncredited >= self._connection_credit_step and self._open_connection()
        stream = self._streams.get(stream_id)
        if stream is None or stream.state is not _OPEN:
            return is_told
        stream.uncredited += size
        if stream.uncredited < self._stream_credit_step:
            return is_told
        stream.window_in += stream.uncredited
        self._out.append(frames.window_update(stream_id, stream.uncredited))
        stream.uncredited = 0
        return True

    def _credit_connection(self, size: int) -> None:
        self._uncredited += size
        if self._uncredited >= self._connection_credit_step:
            self._open_connection()

    def _open_connection(self) -> bool:
        """Let the client send as many bytes again as have been credited. Returns True."""
        self._window_in += self._uncredited
        self._granted_in += self._uncredited
        self._out.append(frames.window_update(0, self._uncredited))
        self._uncredited = 0
        return True

    # -- bytes out -----------------------------------------------------------------------------------------------------

    def bytes_to_send(self) -> bytes:
        if not self._out or not (self._has_preface or self._is_over):
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._budgets.unsent_answers = 0
        return data

    def send(self, stream_id: int, *, head: Fields = (), body: bytes = b"", end: Fields = ()) -> bool:
        stream = self._streams.get(stream_id)
        if stream is None or stream.trailers is not None:
            return True
        size = len(body)
        if (
            head
            and body
            and end
            and stream.state is _HALF_CLOSED
            and size <= self._window_out
            and size <= self._initial_window_out + stream.window_gain
            and size <= SMALLEST_MAX_FRAME
            and not stream.pending
            and self._headers_sent
        ):
            # The common case: a whole response that can leave at once.
            begin = self._head_block if head is self._head_fields else self._remember_head(head)
            finish = hpack.encode(end)
            begin_size, finish_size = len(begin), len(finish)
            if begin_size + finish_size <= SMALLEST_MAX_FRAME:
                del self._streams[stream_id]
                self._window_out -= size
                self._responses_sent += 1
                # A payload that fits the smallest frame size has 0 in the upper byte of its length.
                self._out += (
                    pack_small_head(0, begin_size, HEADERS, END_HEADERS, stream_id),
                    begin,
                    pack_small_head(0, size, DATA, 0, stream_id),
                    body,
                    pack_small_head(0, finish_size, HEADERS, _END_OF_BOTH, stream_id),
                    finish,
                )
                return True
        return self._send_parts(stream_id, stream, head, body, end)

    def _remember_head(self, head: Fields) -> bytes:
        """Encode the fields that open a response. Most responses begin with the very same tuple."""
        self._head_fields, self._head_block = head, hpack.encode(head)
        return self._head_block

    def _send_parts(self, stream_id: int, stream: Stream, head: Fields, body: bytes, end: Fields) -> bool:
        # Both are encoded before anything is sent, so that nothing is sent if one cannot be encoded.
        begin, finish = hpack.encode(head), hpack.encode(end)
        if head:
            self._send_block(stream_id, begin, 0)
        if body:
            self._send_body(stream_id, stream, body)
        has_room = not stream.pending
        if end:
            stream.trailers = finish
            if has_room:
                self._finish(stream_id, stream, finish)
        return has_room

    def _send_body(self, stream_id: int, stream: Stream, data: bytes) -> None:
        size = len(data)
        if (
            size <= self._initial_window_out + stream.window_gain
            and size <= self._window_out
            and size <= self._max_frame_out
            and not stream.pending
        ):
            stream.window_gain -= size
            self._window_out -= size
            self._data_sent += 1 + size // SMALLEST_MAX_FRAME
            self._out += (pack_head(size >> 8, size & 0xFF, DATA, 0, stream_id), data)
            return
        stream.keep(data)
        self.queued_bytes += size
        self._send_pending(stream_id, stream)

    def _send_block(self, stream_id: int, block: bytes, flags: int) -> None:
        if not self._headers_sent:
            block = hpack.NO_TABLE + block
        self._headers_sent += 1
        size = len(block)
        if size <= self._max_frame_out:
            self._out += (
                pack_head(size >> 8, size & 0xFF, HEADERS, flags | END_HEADERS, stream_id),
                block,
            )
            return
        step = self._max_frame_out
        parts = [block[at : at + step] for at in range(0, size, step)]
        self._out.append(frame(HEADERS, flags, stream_id, parts[0]))
        self._out += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
        self._out.append(frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))

    def _finish(self, stream_id: int, stream: Stream, trailers: bytes) -> None:
        self._send_block(stream_id, trailers, END_STREAM)
        if stream.state is _OPEN:
            # RFC 9113 8.1: the answer is complete, so the rest of the request is not needed.
            self._reset(stream_id, ErrorCode.NO_ERROR)
        else:
            del self._streams[stream_id]

    def _send_pending(self, stream_id: int, stream: Stream) -> None:
        """Send what the windows allow for a stream with waiting bytes."""
        while stream.pending and self._initial_window_out + stream.window_gain > 0 and self._window_out > 0:
            self._send_part(stream_id, stream)
        if stream.pending:
            self._wait(stream_id, stream)

    def _wait(self, stream_id: int, stream: Stream) -> None:
        """Let the stream wait until its closed window opens."""
        if self._initial_window_out + stream.window_gain > 0:
            self._starved[stream_id] = stream
        else:
            self._shut[stream_id] = stream

    def _settle(self, stream_id: int, stream: Stream) -> None:
        """After sending what the windows allowed: wait again, end the stream, or report that there is room."""
        if stream.pending:
            self._wait(stream_id, stream)
        elif stream.trailers is not None:
            self._finish(stream_id, stream, stream.trailers)
        else:
            self._events.append(WindowOpened(stream_id))

    def _send_part(self, stream_id: int, stream: Stream) -> None:
        """Send one DATA frame of the waiting bytes. All windows are open."""
        assert stream.pending
        first, offset = stream.pending[0], stream.offset
        window = self._initial_window_out + stream.window_gain
        room = min(window, self._window_out, self._max_frame_out)
        part = bytes(first[offset : offset + room])
        size = len(part)
        if offset + size == len(first):
            stream.pending.popleft()
            stream.offset = 0
        else:
            stream.offset += size
        stream.window_gain -= size
        self._window_out -= size
        self.queued_bytes -= size
        self._data_sent += 1 + size // SMALLEST_MAX_FRAME
        self._out += (pack_head(size >> 8, size & 0xFF, DATA, 0, stream_id), part)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        if stream_id in self._streams:
            self._reset(stream_id, code)

    def _reset(self, stream_id: int, code: int) -> None:
        self._out.append(frames.rst_stream(stream_id, code))
        stream = self._forget(stream_id)
        if stream is not None and stream.state is _OPEN:
            self._expect_late(stream_id, stream.window_in)

    def _expect_late(self, stream_id: int, window: int) -> None:
        """Expect this many bytes more on a stream that is over, because the client learns that later than we do."""
        self._resets[stream_id] = window
        if len(self._resets) > _REMEMBERED_RESETS:
            self._resets.popitem(last=False)

    def _forget(self, stream_id: int) -> Stream | None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None and stream.pending:
            self.queued_bytes -= sum([len(each) for each in stream.pending]) - stream.offset
            self._starved.pop(stream_id, None)
            self._shut.pop(stream_id, None)
        return stream

    def ping(self, data: bytes) -> None:
        if not self._is_over:
            self._pings_sent += 1
            self._out.append(frame(frames.PING, 0, 0, data))

    def announce_goaway(self, reason: bytes = b"") -> None:
        if not self._is_over:
            self._out.append(frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR, reason))

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: bytes = b"") -> None:
        if not self._is_over:
            self._last_accepted = self._last_stream
            self._out.append(frames.goaway(self._last_stream, code, reason))


class _Enough(Exception):
    """One `receive` has begun or ended as many streams as it may. The frame waits for the next one."""


_MISPLACED = {
    SETTINGS: "the first frame is not SETTINGS",
    CONTINUATION: "a header block that another frame interrupts",
}


def _unpadded(payload: bytes) -> bytes:
    """Return the payload without its padding (RFC 9113 6.1). Raises ConnectionFault."""
    if not payload or payload[0] >= len(payload):
        raise protocol_fault("padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def _dependency(payload: bytes) -> int:
    """Return the stream that a priority names (RFC 7540 5.3.1)."""
    dependency: int = frames.UINT32.unpack_from(payload)[0] & MAX_STREAM_ID
    return dependency


# By frame type. These are functions and not bound methods, because an engine that refers to itself would stay until the
# next full collection.
_RECEIVERS = (
    NativeEngine._receive_data,  # noqa: SLF001 - this module's own
    NativeEngine._receive_headers,  # noqa: SLF001
    NativeEngine._receive_priority,  # noqa: SLF001
    NativeEngine._receive_rst_stream,  # noqa: SLF001
    NativeEngine._receive_settings,  # noqa: SLF001
    NativeEngine._receive_push_promise,  # noqa: SLF001
    NativeEngine._receive_ping,  # noqa: SLF001
    NativeEngine._receive_goaway,  # noqa: SLF001
    NativeEngine._receive_window_update,  # noqa: SLF001
    NativeEngine._receive_continuation,  # noqa: SLF001
)
