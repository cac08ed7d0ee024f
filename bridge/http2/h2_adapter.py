"""The reference engine: python-hyper's h2 with the same interface. Use it to compare when a client misbehaves.

It lacks most of the native engine's limits, for example budgets against floods. h2 gets one whole frame at a time, so
that a bad frame does not lose the events of good ones before it. What h2 cannot do is done around it: refusing a
stream, draining, queueing for a window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from h2 import events as h2_events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from bridge.http2 import events, frames
from bridge.http2.events import ErrorCode, Event, Fields, ViolationKind
from bridge.http2.headers import checked_request, flaw_in, stripped, trailers_fault
from bridge.http2.interface import BYTES_AT_ONCE, STREAMS_AT_ONCE, EngineLimits
from bridge.http2.preface import HTTP1_ANSWER, HTTP1_REASON, PREFACE, TLS_REASON, Verdict, judge

_NO_CHECKS = H2Configuration(
    client_side=False, validate_inbound_headers=False, normalize_inbound_headers=False, validate_outbound_headers=False
)


class _Stream:
    __slots__ = ("is_ended_by_peer", "pending")

    def __init__(self, *, is_ended_by_peer: bool) -> None:
        self.is_ended_by_peer = is_ended_by_peer
        self.pending: deque[memoryview | Fields] = deque()
        """Body bytes, then perhaps trailers, that wait for the client's windows."""


def _fields_of(headers: Iterable[tuple[bytes, bytes]]) -> Fields:
    return tuple([(name.decode("latin-1"), stripped(value.decode("latin-1"))) for name, value in headers])


class H2Engine:
    """See interface.Engine."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._streams: dict[int, _Stream] = {}
        self._in = b""
        self._out: list[bytes] = []
        self._events: list[Event] = []
        self._last_accepted = frames.MAX_STREAM_ID
        self._is_over = self._has_preface = self.has_handshaken = self._is_in_block = False
        self.has_backlog = False
        self._streams_begun = 0
        self.queued_bytes = 0
        self._h2 = H2Connection(_NO_CHECKS)
        settings = {
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list,
        }
        self._h2.local_settings = Settings(client=False, initial_values=settings)
        self._h2.initiate_connection()
        # h2 answers one stream too many with GOAWAY, so it must not count them itself.
        settings[SettingCodes.MAX_CONCURRENT_STREAMS] = frames.MAX_STREAM_ID
        self._h2.local_settings = Settings(client=False, initial_values=settings)
        self._h2.decoder.max_header_list_size = limits.max_header_list
        self._h2.increment_flow_control_window(limits.connection_window - frames.DEFAULT_WINDOW)
        # h2 would accept any size in the client's SETTINGS_HEADER_TABLE_SIZE. Without a table this has no effect.
        self._h2.encoder.header_table_size = 0

    @property
    def open_streams(self) -> Collection[int]:
        return self._streams.keys()

    @property
    def has_output(self) -> bool:
        return True

    @property
    def has_open_block(self) -> bool:
        return self._is_in_block or (self._has_preface and frames.begins_block(self._in))

    @property
    def peer_max_header_list(self) -> int | None:
        return self._h2.remote_settings.max_header_list_size

    def is_open(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return stream is not None and not (stream.pending and isinstance(stream.pending[-1], tuple))

    def receive(self, data: bytes, *, now: float) -> list[Event]:  # noqa: ARG002 - h2 has no limits in time
        self._events = []
        if self._is_over:
            return []
        self._in += data
        self.has_backlog = False
        if self._has_preface or self._read_preface():
            self._read_frames()
        return self._events

    def _read_preface(self) -> bool:
        verdict = judge(self._in)
        if verdict is Verdict.HTTP1:
            self._is_over, self._out = True, [HTTP1_ANSWER]
            self._h2.clear_outbound_data_buffer()
            self._events.append(events.Violation(ViolationKind.HTTP1))
            self._events.append(events.ConnectionFailed(ErrorCode.HTTP_1_1_REQUIRED, HTTP1_REASON))
        elif verdict in {Verdict.TLS, Verdict.UNKNOWN}:
            self._fail(ErrorCode.PROTOCOL_ERROR, TLS_REASON if verdict is Verdict.TLS else "not HTTP/2")
        elif verdict is Verdict.HTTP2:
            self._has_preface, self._in = True, self._in[len(PREFACE) :]
            self._h2.receive_data(PREFACE)
        return self._has_preface

    def _read_frames(self) -> None:
        at, end = 0, len(self._in)
        pause_at = self._streams_begun + STREAMS_AT_ONCE
        while end - at >= frames.HEAD_SIZE and not self._is_over:
            high, low, kind, flags, stream_id = frames.parse_head(self._in, at)
            size = high << 8 | low
            if size > frames.SMALLEST_MAX_FRAME:  # h2 checks the size only when it has the whole frame
                self._fail(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
                return
            if end - at < frames.HEAD_SIZE + size:
                break
            if at >= BYTES_AT_ONCE or (kind == frames.HEADERS and self._streams_begun >= pause_at):
                self.has_backlog = True
                break
            start, at = at + frames.HEAD_SIZE, at + frames.HEAD_SIZE + size
            self._feed(kind, flags, stream_id, self._in[start:at])
        self._in = self._in[at:]

    def _feed(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.GOAWAY and not stream_id and not self._is_in_block:
            return  # h2 would close the connection under a client that still waits for its calls
        if kind == frames.SETTINGS and not flags & frames.ACK and len(payload) % frames.SETTING.size == 0:
            settings = [pair for pair in frames.SETTING.iter_unpack(payload) if pair[0] != frames.HEADER_TABLE_SIZE]
            payload = b"".join([frames.SETTING.pack(*pair) for pair in settings])
        if kind in (frames.HEADERS, frames.CONTINUATION):
            self._is_in_block = not flags & frames.END_HEADERS
        self._out.append(self._h2.data_to_send())
        try:
            occurred = self._h2.receive_data(frames.frame(kind, flags, stream_id, payload))
        except ProtocolError as error:
            self._h2.clear_outbound_data_buffer()  # drops h2's own GOAWAY, which does not give the reason
            self._fail(ErrorCode(error.error_code), str(error)[:200])
            return
        for event in occurred:
            self._translate(event)

    def _translate(self, event: h2_events.Event) -> None:
        match event:
            case h2_events.RequestReceived():
                self._begin(event.stream_id, _fields_of(event.headers), ended=event.stream_ended is not None)
            case h2_events.DataReceived():
                self.credit(event.stream_id, event.flow_controlled_length - len(event.data))
                self._body(event.stream_id, event.data, ended=event.stream_ended is not None)
            case h2_events.TrailersReceived():
                self._end(event.stream_id, _fields_of(event.headers))
            case h2_events.StreamReset() if self._forget(event.stream_id):
                self._events.append(events.StreamReset(event.stream_id, event.error_code, event.remote_reset))
            case h2_events.WindowUpdated() | h2_events.RemoteSettingsChanged():
                self.has_handshaken |= isinstance(event, h2_events.RemoteSettingsChanged)
                for stream_id in [i for i, stream in self._streams.items() if stream.pending]:
                    if self._flush(stream_id, self._streams[stream_id]):
                        self._events.append(events.WindowOpened(stream_id))
            case h2_events.PingAckReceived():
                self._events.append(events.PingAcknowledged(event.ping_data))

    def _begin(self, stream_id: int, fields: Fields, *, ended: bool) -> None:
        request = checked_request(fields, flaw_in(fields))
        self._streams_begun += 1
        if stream_id > self._last_accepted:
            self._h2.reset_stream(stream_id, ErrorCode.REFUSED_STREAM)
        elif len(self._streams) >= self._limits.max_concurrent_streams:
            self._h2.reset_stream(stream_id, ErrorCode.REFUSED_STREAM)
            self._events.append(events.Violation(ViolationKind.TOO_MANY_STREAMS))
        elif request.fault or (ended and request.content_length):
            self._h2.reset_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
            self._events.append(events.Violation(ViolationKind.MALFORMED_HEADERS))
        else:
            self._streams[stream_id] = _Stream(is_ended_by_peer=ended)
            self._events.append(events.RequestReceived(stream_id, fields, ended))

    def _end(self, stream_id: int, fields: Fields) -> None:
        if flaw_in(fields) is None and trailers_fault(fields) is None:
            self._body(stream_id, b"", ended=True)
            return
        self.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
        self._events.append(events.Violation(ViolationKind.MALFORMED_HEADERS))
        self._events.append(events.StreamReset(stream_id, ErrorCode.PROTOCOL_ERROR, by_peer=False))

    def _body(self, stream_id: int, data: bytes, *, ended: bool) -> None:
        self._streams[stream_id].is_ended_by_peer = ended
        self._events.append(events.DataReceived(stream_id, data, ended))

    def _fail(self, code: ErrorCode, reason: str) -> None:
        self._events.append(events.Violation(ViolationKind.PROTOCOL))
        self._events.append(events.ConnectionFailed(code, reason))
        self.goaway(code, reason.encode("ascii", "replace"))
        self._is_over = True
        self._streams.clear()
        self.queued_bytes = 0

    def _forget(self, stream_id: int) -> bool:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return False
        self.queued_bytes -= sum([len(part) for part in stream.pending if isinstance(part, memoryview)])
        return True

    def bytes_to_send(self) -> bytes:
        if not self._has_preface and not self._is_over:
            return b""
        self._out.append(self._h2.data_to_send())
        data = b"".join(self._out)
        self._out.clear()
        return data

    def send(self, stream_id: int, *, head: Fields = (), body: bytes = b"", end: Fields = ()) -> bool:
        if head and self.is_open(stream_id):
            self._h2.send_headers(stream_id, head)
        if body:
            self._queue(stream_id, memoryview(body))
        has_room = stream_id not in self._streams or not self._streams[stream_id].pending
        if end:
            self._queue(stream_id, end)
        return has_room

    def _queue(self, stream_id: int, part: memoryview | Fields) -> bool:
        if not self.is_open(stream_id):
            return True
        stream = self._streams[stream_id]
        stream.pending.append(part)
        self.queued_bytes += len(part) if isinstance(part, memoryview) else 0
        return self._flush(stream_id, stream)

    def _flush(self, stream_id: int, stream: _Stream) -> bool:
        while stream.pending:
            part = stream.pending[0]
            if isinstance(part, tuple):
                self._h2.send_headers(stream_id, part, end_stream=True)
                if not stream.is_ended_by_peer:
                    self._h2.reset_stream(stream_id, ErrorCode.NO_ERROR)
                self._forget(stream_id)
                return False
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
            if room <= 0:
                return False
            self._h2.send_data(stream_id, part[:room])
            self.queued_bytes -= len(part[:room])
            stream.pending.popleft()
            if len(part) > room:
                stream.pending.appendleft(part[room:])
        return True

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        if self._forget(stream_id):
            self._h2.reset_stream(stream_id, code)

    def credit(self, stream_id: int, size: int) -> bool:
        if not self._is_over:
            self._h2.acknowledge_received_data(size, stream_id)
        return not self._is_over

    def ping(self, data: bytes) -> None:
        if not self._is_over:
            self._h2.ping(data)

    # h2 can neither drain nor send GOAWAY twice: after the first one it refuses everything. So h2 is not told of these.

    def announce_goaway(self, reason: bytes = b"") -> None:
        self._say_goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR, reason)

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: bytes = b"") -> None:
        self._last_accepted = self._h2.highest_inbound_stream_id
        self._say_goaway(self._last_accepted, code, reason)

    def _say_goaway(self, last_stream_id: int, code: ErrorCode, reason: bytes) -> None:
        if not self._is_over:
            self._out.append(self._h2.data_to_send())
            self._out.append(frames.goaway(last_stream_id, code, reason))
