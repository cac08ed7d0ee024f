"""The client side of one HTTP/2 connection (RFC 9113). It turns bytes into events, and commands into bytes. A malformed
reply ends only its own stream, because other calls share the connection. A fault of the connection itself (framing,
header compression, windows) ends it. So does a server that sends too many frames without content.

The engine knows neither gRPC nor the transport, so it works over any connection to a server.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.http2 import frames, hpack
from bridge.http2.client_sender import ClientSender, ClientStream
from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    Fields,
    PingAcknowledged,
    StreamReset,
    ViolationKind,
    WindowOpened,
)
from bridge.http2.faults import ConnectionFault, flow_fault, protocol_fault, size_fault
from bridge.http2.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEAD_SIZE,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PADDED,
    SETTINGS,
    SMALLEST_MAX_FRAME,
    frame,
    parse_head,
)
from bridge.http2.headers import HeaderList, response_fault, response_trailers_fault
from bridge.http2.preface import PREFACE
from bridge.rpc.value import FrozenValue

MAX_FRAME_IN = SMALLEST_MAX_FRAME
"""The largest payload that the server may send (bytes): the protocol's default."""

MAX_INTERIM = 16
"""Most interim responses (1xx) on one stream. More of them end the stream."""

_CREDIT_SHARE = 2
"""A window is refilled when this fraction of it (one in so many) has been consumed."""

_SHORTEST_DATA = 5
"""A DATA frame shorter than this carries no gRPC message."""


class ClientLimits(FrozenValue, frozen=True):
    """What one connection to a server may cost."""

    stream_window: int = 256 << 10
    """Bytes that a server may send on a stream before anything is read from it."""
    connection_window: int = 16 << 20
    """Bytes that may be in flight on all streams. It is refilled as bytes arrive, so that one slow reader does not
    block the others.
    """
    max_header_list: int = 1 << 20
    """As RFC 9113 6.5.2 counts."""
    max_header_fields: int = 2000
    max_header_block: int = 4 << 20
    """Bytes of a header block as sent. A longer one ends the connection."""
    patience: int = 10_000
    """Frames without content that are allowed: PING, SETTINGS, WINDOW_UPDATE, empty DATA and the like."""
    patience_rate: float = 200.0
    """How many more of them are allowed each second."""
    patience_for_data: int = 20
    """How many more are allowed for each DATA frame in either direction: a server may send a PING or open windows for
    each.
    """


# -- what it reports ---------------------------------------------------------------------------------------------------


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


class _StreamFault(Exception):
    """One stream is over because the server broke a rule on it."""

    def __init__(self, stream_id: int, code: ErrorCode, reason: str, *, is_too_large: bool = False) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason
        self.is_too_large = is_too_large


class _OpenBlock:
    """The parts of a header block, and what its HEADERS frame said."""

    __slots__ = ("flags", "parts", "size", "stream_id")

    def __init__(self, flags: int, stream_id: int, first: bytes) -> None:
        self.flags = flags
        self.stream_id = stream_id
        self.parts = [first]
        self.size = len(first)


class _Patience:
    """How many frames without content the server may still send. DATA in both directions gives it more."""

    __slots__ = ("_at", "_left", "_limits", "_seen", "_sender")

    def __init__(self, limits: ClientLimits, sender: ClientSender) -> None:
        self._limits = limits
        self._sender = sender
        self._left = float(limits.patience)
        self._at = 0.0
        self._seen = 0
        """How many of the sender's DATA frames have been counted."""

    def data_arrived(self) -> None:
        self._left += self._limits.patience_for_data

    def charge(self, cost: int, now: float) -> None:
        """Count frames without content. Raises ConnectionFault when there are too many."""
        limits, sent = self._limits, self._sender.data_frames
        gained = (now - self._at) * limits.patience_rate + (sent - self._seen) * limits.patience_for_data
        self._left = min(limits.patience, self._left + gained) - cost
        self._at = now
        self._seen = sent
        if self._left < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, ViolationKind.USELESS_FRAMES, "too_many_useless_frames")


class ClientEngine:
    """`now` is the monotonic time in seconds. Nothing here raises for what the server does. A stream may end between
    two calls, so commands for one that is over are ignored, and after ConnectionFailed all of them are.
    """

    __slots__ = (
        "_block",
        "_connection_step",
        "_decoder",
        "_events",
        "_expected",
        "_goaway_last",
        "_is_over",
        "_late_room",
        "_limits",
        "_max_streams",
        "_next_stream",
        "_now",
        "_partial",
        "_patience",
        "_pings_sent",
        "_sender",
        "_step",
        "_streams",
        "_uncredited",
        "_window_in",
        "has_settings",
        "is_going_away",
        "peer_max_header_list",
    )

    def __init__(self, limits: ClientLimits) -> None:
        self.has_settings = False
        """Whether the server's first SETTINGS have arrived."""
        self.is_going_away = False
        """Whether GOAWAY was received or sent. No stream can be opened then."""
        self.peer_max_header_list: int | None = None
        """The server's SETTINGS_MAX_HEADER_LIST_SIZE, if it sent one."""
        self._limits = limits
        self._decoder = hpack.Decoder(max_list=limits.max_header_list, max_metadata=limits.max_header_fields)
        self._streams: dict[int, ClientStream] = {}
        self._next_stream = 1
        self._goaway_last = MAX_STREAM_ID
        self._max_streams = MAX_STREAM_ID
        self._now = 0.0
        self._events: list[ClientEvent] = []

        self._partial = b""
        self._is_over = False
        self._expected: int | None = SETTINGS
        """The only frame type that may come next."""
        self._block: _OpenBlock | None = None
        """A header block that has begun and not ended."""

        self._pings_sent = 0
        """Our PINGs that have not been answered."""
        self._late_room = 0
        """Bytes that may still arrive on ended streams. The server learns later that we gave one up. A server that
        sends bytes after a stream's end must not harm other streams.
        """

        self._step = -(-limits.stream_window // _CREDIT_SHARE)
        self._connection_step = -(-limits.connection_window // _CREDIT_SHARE)
        self._window_in = limits.connection_window
        self._uncredited = 0
        self._sender = ClientSender()
        self._patience = _Patience(limits, self._sender)
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
        return self._streams.keys()

    @property
    def capacity(self) -> int:
        """How many more streams may be opened now. 0 until the server's SETTINGS are known."""
        if not self.has_settings or self._is_over or self.is_going_away:
            return 0
        return min(self._max_streams - len(self._streams), (MAX_STREAM_ID - self._next_stream) // 2)

    @property
    def max_streams(self) -> int:
        """How many streams the server takes at once."""
        return self._max_streams

    @property
    def last_stream(self) -> int:
        """The id of the stream that was opened last. It is below 1 if no stream was opened."""
        return self._next_stream - 2

    @property
    def has_output(self) -> bool:
        return bool(self._sender.out)

    @property
    def queued_bytes(self) -> int:
        """Body bytes that wait for the server's windows."""
        return self._sender.queued_bytes

    def is_open(self, stream_id: int) -> bool:
        """Whether the stream has not ended."""
        return stream_id in self._streams

    # -- bytes in ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, *, now: float) -> list[ClientEvent]:
        """Take bytes in any chunking and return what happened. Answers that need no decision are queued."""
        if self._is_over:
            return []
        if self._partial:
            data = self._partial + data
        events: list[ClientEvent] = []
        self._events = events
        self._now = now
        try:
            at = self._receive_frames(data)
        except ConnectionFault as fault:
            self._end_connection(fault)
            return events
        self._partial = data[at:]
        return events

    def _receive_frames(self, data: bytes) -> int:
        """Take the whole frames. Returns where the first incomplete one begins."""
        at, end, receivers, known_types = 0, len(data), _RECEIVERS, len(_RECEIVERS)
        while end - at >= HEAD_SIZE:
            high, low, kind, flags, stream_id = parse_head(data, at)
            size = high << 8 | low
            if self._expected is not None and kind != self._expected:
                raise protocol_fault(_misplaced(self._expected, data[at : at + HEAD_SIZE]))
            if size > MAX_FRAME_IN:
                reason = f"a frame of {size} bytes, limit {MAX_FRAME_IN}"
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, ViolationKind.FRAME_SIZE, reason)
            start = at + HEAD_SIZE
            if end - start < size:
                break
            at = start + size
            try:
                if kind < known_types:
                    receivers[kind](self, flags, stream_id & MAX_STREAM_ID, data[start:at])
                else:
                    self._charge()
            except _StreamFault as fault:
                self._fail_stream(fault)
        return at

    def _charge(self, cost: int = 1) -> None:
        """Count a frame without content. Raises ConnectionFault when there are too many."""
        self._patience.charge(cost, self._now)

    def _end_connection(self, fault: ConnectionFault) -> None:
        self.goaway(fault.code, fault.reason.encode("ascii", "replace"))
        self._is_over = True
        self._streams.clear()
        self._sender.clear()
        self._partial = b""
        self._block = None
        self._events.append(ConnectionFailed(fault.code, fault.reason))

    def _fail_stream(self, fault: _StreamFault) -> None:
        self._charge()
        if fault.stream_id in self._streams:
            self._events.append(StreamFailed(fault.stream_id, fault.reason, fault.is_too_large))
            self.reset(fault.stream_id, fault.code)

    def _refuse_idle(self, stream_id: int) -> None:
        """Raise for a stream that we never opened. A server opens none, because push is off."""
        if stream_id >= self._next_stream or not stream_id & 1:
            raise protocol_fault("a frame for a stream that was never opened")

    # -- DATA ----------------------------------------------------------------------------------------------------------

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._window_in -= size
        if self._window_in < 0:
            raise flow_fault("more DATA than the connection's window")
        self._credit_connection(size)
        if size >= _SHORTEST_DATA:
            self._patience.data_arrived()
        elif not flags & END_STREAM:
            self._charge()
        stream = self._streams.get(stream_id)
        if stream is None:
            self._refuse_idle(stream_id)
            self._charge()
            self._late_room -= size
            if self._late_room < 0:
                raise ConnectionFault(
                    ErrorCode.STREAM_CLOSED, ViolationKind.STREAM_CLOSED, "DATA for streams that have ended"
                )
            return
        stream.window_in -= size
        if stream.window_in < 0:
            raise _StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "it sent more than its window allows")
        if not stream.has_response:
            raise _StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "it sent a body before its headers")
        if flags & PADDED:
            payload = _unpadded(payload)
            self._credit_stream(stream_id, stream, size - len(payload))
        ended = flags & END_STREAM != 0
        if payload or ended:
            self._events.append(DataReceived(stream_id, payload, ended))
        if ended:
            self._end_stream(stream_id, stream)

    # -- HEADERS and CONTINUATION --------------------------------------------------------------------------------------

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & HAS_PRIORITY:
            if len(payload) < frames.PRIORITY_SIZE:
                raise size_fault("HEADERS")
            payload = payload[frames.PRIORITY_SIZE :]
        if flags & END_HEADERS:
            self._receive_block(flags, stream_id, payload)
            return
        self._expected = CONTINUATION
        self._block = _OpenBlock(flags, stream_id, payload)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or stream_id != block.stream_id:
            raise protocol_fault("a CONTINUATION that continues nothing")
        self._charge()
        block.size += len(payload)
        if block.size > self._limits.max_header_block:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, ViolationKind.CONTINUATIONS, "header_block_too_large")
        block.parts.append(payload)
        if flags & END_HEADERS:
            self._expected = self._block = None
            self._receive_block(block.flags, stream_id, b"".join(block.parts))

    def _receive_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """Take a whole header block: of a response, of its trailers, or of a stream that is over."""
        # The block is always read, because it may change the table that the next block relies on.
        decoded = self._decoder.decode(block)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._refuse_idle(stream_id)
            self._charge()
            return
        if decoded.work:
            # The refused block has cost as much as this many small frames.
            self._charge(decoded.work >> 10)
        _refuse_unsound(stream_id, decoded)
        ended = flags & END_STREAM != 0
        if stream.has_response:
            self._receive_trailers(stream_id, stream, decoded.fields, ended=ended)
        else:
            self._receive_response(stream_id, stream, decoded.fields, ended=ended)

    def _receive_response(self, stream_id: int, stream: ClientStream, fields: Fields, *, ended: bool) -> None:
        fault = response_fault(fields)
        if fault is not None:
            raise _StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        if fields[0][1][0] == "1":
            # RFC 9110 15.2: this is interim, and the response follows.
            self._charge()
            stream.interim += 1
            if ended or stream.interim > MAX_INTERIM:
                raise _StreamFault(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "it sent interim responses (1xx) and no response"
                )
            return
        stream.has_response = True
        self._events.append(ResponseReceived(stream_id, fields, ended))
        if ended:
            self._end_stream(stream_id, stream)

    def _receive_trailers(self, stream_id: int, stream: ClientStream, fields: Fields, *, ended: bool) -> None:
        if not ended:
            raise _StreamFault(
                stream_id, ErrorCode.PROTOCOL_ERROR, "it sent a second header block that does not end the stream"
            )
        fault = response_trailers_fault(fields)
        if fault is not None:
            raise _StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        self._events.append(TrailersReceived(stream_id, fields))
        self._end_stream(stream_id, stream)

    def _end_stream(self, stream_id: int, stream: ClientStream) -> None:
        """End the server's side, and with it the call. The server does not want the rest of it (RFC 9113 8.1)."""
        if not stream.is_half_closed:
            self._sender.out.append(frames.rst_stream(stream_id, ErrorCode.NO_ERROR))
        self._late_room += max(0, stream.window_in)
        self._forget(stream_id)

    # -- the other frames ----------------------------------------------------------------------------------------------

    def _receive_priority(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        """Ignore PRIORITY: it has no meaning for a client (RFC 9113 5.3.2)."""
        self._charge()

    def _receive_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.UINT32.size:
            raise size_fault("RST_STREAM")
        if stream_id not in self._streams:
            self._refuse_idle(stream_id)
            self._charge()
            return
        (code,) = frames.UINT32.unpack(payload)
        self._forget(stream_id)
        self._events.append(StreamReset(stream_id, code, by_peer=True))

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_fault("SETTINGS on a stream")
        if len(payload) % frames.SETTING.size or (flags & ACK and payload):
            raise size_fault("SETTINGS")
        self._charge(1 + len(payload) // frames.SETTING.size)
        if flags & ACK:
            if not self.has_settings:
                raise protocol_fault("the first frame is not SETTINGS")
            return
        sender, max_streams = self._sender, self._max_streams
        window = sender.initial_window
        for setting, value in frames.SETTING.iter_unpack(payload):
            self._apply_setting(setting, value)
        self._sender.out.append(frames.SETTINGS_ACK)
        if not self.has_settings:
            self.has_settings = True
            self._expected = None
            self._events.append(ConnectionReady())
        elif self._max_streams != max_streams:
            self._events.append(CapacityChanged())
        if sender.initial_window > window:
            # Behind the acknowledgement: to the server, what comes before it still fits the former windows (RFC 9113
            # 6.5.3).
            waiting = [i for i, stream in self._streams.items() if stream.pending]
            self._charge(len(waiting))
            for each in waiting:
                self._resume(each, self._streams[each])

    def _apply_setting(self, setting: int, value: int) -> None:
        match setting:
            case frames.ENABLE_PUSH if value:
                raise protocol_fault("a server that sends ENABLE_PUSH")
            case frames.MAX_CONCURRENT_STREAMS:
                self._max_streams = min(value, MAX_STREAM_ID)
            case frames.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise flow_fault("an initial window above 2^31-1")
                self._sender.initial_window = value
            case frames.MAX_FRAME_SIZE:
                if not SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                    raise protocol_fault("MAX_FRAME_SIZE out of its range")
                self._sender.max_frame = value
            case frames.MAX_HEADER_LIST_SIZE:
                self.peer_max_header_list = value
            case _:  # HEADER_TABLE_SIZE needs no answer, because hpack.NO_TABLE fits any value
                pass

    def _receive_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise protocol_fault("PUSH_PROMISE, which our SETTINGS forbid")

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_fault("PING on a stream")
        if len(payload) != 8:
            raise size_fault("PING")
        if flags & ACK and self._pings_sent:
            self._pings_sent -= 1
            self._events.append(PingAcknowledged(payload))
            return
        self._charge()
        if not flags & ACK:
            self._sender.out.append(frame(frames.PING, ACK, 0, payload))

    def _receive_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise protocol_fault("GOAWAY on a stream")
        if len(payload) < 8:
            raise size_fault("GOAWAY")
        self._charge()
        last = frames.UINT32.unpack_from(payload)[0] & MAX_STREAM_ID
        code = frames.UINT32.unpack_from(payload, 4)[0]
        self.is_going_away = True
        if last < self._goaway_last:
            self._goaway_last = last
            for refused in [each for each in self._streams if each > last]:
                self._forget(refused)
                self._events.append(StreamNotProcessed(refused))
        self._events.append(GoingAway(code, payload[8:]))

    def _receive_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != frames.UINT32.size:
            raise size_fault("WINDOW_UPDATE")
        self._charge()
        increment = frames.UINT32.unpack(payload)[0] & MAX_WINDOW
        if not stream_id:
            self._open_connection_window(increment)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._refuse_idle(stream_id)
            return
        if not increment:
            raise _StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "it sent a WINDOW_UPDATE of 0")
        stream.granted_out += increment
        if self._sender.room_of(stream) > MAX_WINDOW:
            raise _StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "it opened a window beyond 2^31-1")
        if stream.pending:
            self._resume(stream_id, stream)

    def _open_connection_window(self, increment: int) -> None:
        if not increment:
            raise protocol_fault("a WINDOW_UPDATE of 0")
        self._sender.window += increment
        if self._sender.window > MAX_WINDOW:
            raise flow_fault("the connection's window above 2^31-1")
        self._events += map(WindowOpened, self._sender.resume_starved())

    def _resume(self, stream_id: int, stream: ClientStream) -> None:
        """Go on with a stream whose own window has opened."""
        if self._sender.resume(stream_id, stream):
            self._events.append(WindowOpened(stream_id))

    # -- credit --------------------------------------------------------------------------------------------------------

    def credit(self, stream_id: int, size: int) -> bool:
        """Let the server send as many more body bytes as the reader took. Ended streams are allowed. Returns False if
        nothing was queued: small credits are collected.
        """
        stream = self._streams.get(stream_id)
        return stream is not None and self._credit_stream(stream_id, stream, size)

    def _credit_stream(self, stream_id: int, stream: ClientStream, size: int) -> bool:
        stream.uncredited += size
        if stream.uncredited < self._step:
            return False
        stream.window_in += stream.uncredited
        self._sender.out.append(frames.window_update(stream_id, stream.uncredited))
        stream.uncredited = 0
        return True

    def _credit_connection(self, size: int) -> None:
        self._uncredited += size
        if self._uncredited >= self._connection_step:
            self._window_in += self._uncredited
            self._sender.out.append(frames.window_update(0, self._uncredited))
            self._uncredited = 0

    # -- bytes out -----------------------------------------------------------------------------------------------------

    def bytes_to_send(self) -> bytes:
        """Return everything queued, once. After a ConnectionFailed it ends with GOAWAY and the reason."""
        return self._sender.take()

    def open(self, fields: Fields, *, ended: bool = False) -> int:
        """Begin a stream with these fields (pseudo-headers first, values clean) and return its id. Call it only while
        `capacity` is above 0.
        """
        assert self.capacity > 0, "no stream may be opened"
        stream_id = self._next_stream
        self._next_stream += 2
        stream = self._streams[stream_id] = ClientStream(self._limits.stream_window)
        stream.is_half_closed = ended
        self._sender.send_head(stream_id, fields, ended=ended)
        return stream_id

    def send_data(self, stream_id: int, data: bytes) -> bool:
        """Queue body bytes. Returns False while some of them wait for the server's windows. `receive` then reports
        WindowOpened later.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_half_closed or stream.ends:
            return True
        if data:
            self._sender.send_body(stream_id, stream, data)
        return not stream.pending

    def end(self, stream_id: int) -> None:
        """End our side of the stream, behind what is queued on it."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_half_closed:
            return
        if stream.pending:
            stream.ends = True
        else:
            self._sender.send_end(stream_id, stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Abandon the stream. No event comes for it."""
        stream = self._forget(stream_id)
        if stream is not None:
            self._late_room += max(0, stream.window_in)
            self._sender.out.append(frames.rst_stream(stream_id, code))

    def _forget(self, stream_id: int) -> ClientStream | None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._sender.drop(stream_id, stream)
        return stream

    def ping(self, data: bytes) -> None:
        """Queue a PING with these 8 bytes."""
        if not self._is_over:
            self._pings_sent += 1
            self._sender.out.append(frame(frames.PING, 0, 0, data))

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: bytes = b"") -> None:
        """Tell the server that the connection ends. A server opens no streams, so the last stream id is 0."""
        if not self._is_over:
            self.is_going_away = True
            self._sender.out.append(frames.goaway(0, code, reason))


_HTTP1 = b"HTTP/1."


def _misplaced(expected: int, head: bytes) -> str:
    if expected == CONTINUATION:
        return "a header block that another frame interrupts"
    return "it answers in HTTP/1.1" if head.startswith(_HTTP1) else "the first frame is not SETTINGS"


def _refuse_unsound(stream_id: int, decoded: HeaderList) -> None:
    """Raise for a header list that no stream may have."""
    if decoded.excess:
        raise _StreamFault(
            stream_id, ErrorCode.CANCEL, "its header list is too large or has too many fields", is_too_large=True
        )
    if decoded.flaw is not None:
        raise _StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, decoded.flaw)


def _unpadded(payload: bytes) -> bytes:
    """Return the payload without its padding (RFC 9113 6.1). Raises ConnectionFault."""
    if not payload or payload[0] >= len(payload):
        raise protocol_fault("padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


# By frame type. These are functions and not bound methods, because an engine that refers to itself would stay until the
# next full collection.
_RECEIVERS = (
    ClientEngine._receive_data,  # noqa: SLF001 - this module's own
    ClientEngine._receive_headers,  # noqa: SLF001
    ClientEngine._receive_priority,  # noqa: SLF001
    ClientEngine._receive_rst_stream,  # noqa: SLF001
    ClientEngine._receive_settings,  # noqa: SLF001
    ClientEngine._receive_push_promise,  # noqa: SLF001
    ClientEngine._receive_ping,  # noqa: SLF001
    ClientEngine._receive_goaway,  # noqa: SLF001
    ClientEngine._receive_window_update,  # noqa: SLF001
    ClientEngine._receive_continuation,  # noqa: SLF001
)
