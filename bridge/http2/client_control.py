"""The frames with which a server steers its connection: SETTINGS, PING, GOAWAY and WINDOW_UPDATE. The frames that a
client ignores or refuses stand here, too.
"""

from __future__ import annotations

from bridge.http2 import frames
from bridge.http2.client_events import (
    CapacityChanged,
    ClientEvent,
    ConnectionReady,
    GoingAway,
    StreamNotProcessed,
)
from bridge.http2.client_limits import Patience
from bridge.http2.client_sender import ClientSender, ClientStream
from bridge.http2.client_streams import ResponseFault, StreamTable
from bridge.http2.events import ErrorCode, PingAcknowledged, WindowOpened
from bridge.http2.faults import flow_fault, protocol_fault, size_fault
from bridge.http2.frames import ACK, MAX_STREAM_ID, MAX_WINDOW, SMALLEST_MAX_FRAME, frame


class ControlReceiver:
    """Methods raise ResponseFault for a fault of one stream, and ConnectionFault for one of the connection."""

    __slots__ = ("_goaway_last", "_patience", "_pings_sent", "_sender", "_streams")

    def __init__(self, streams: StreamTable, sender: ClientSender, patience: Patience) -> None:
        self._streams = streams
        self._sender = sender
        self._patience = patience
        self._pings_sent = 0
        """Our PINGs that have not been answered."""
        self._goaway_last = MAX_STREAM_ID
        """The last stream that the server may process, as its GOAWAY says."""

    def ping(self, data: bytes) -> None:
        """Queue a PING with these 8 bytes."""
        self._pings_sent += 1
        self._sender.out.append(frame(frames.PING, 0, 0, data))

    def receive_priority(self, _flags: int, _stream_id: int, _payload: bytes, _events: list[ClientEvent]) -> None:
        """Ignore PRIORITY: it has no meaning for a client (RFC 9113 5.3.2)."""
        self._patience.charge()

    def receive_settings(self, flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        if stream_id:
            raise protocol_fault("SETTINGS on a stream")
        if len(payload) % frames.SETTING.size or (flags & ACK and payload):
            raise size_fault("SETTINGS")
        self._patience.charge(1 + len(payload) // frames.SETTING.size)
        if flags & ACK:
            if not self._streams.has_settings:
                raise protocol_fault("the first frame is not SETTINGS")
            return
        sender, streams = self._sender, self._streams
        max_streams = streams.max_streams
        window = sender.initial_window
        for setting, value in frames.SETTING.iter_unpack(payload):
            self._apply_setting(setting, value)
        self._sender.out.append(frames.SETTINGS_ACK)
        if not self._streams.has_settings:
            self._streams.has_settings = True
            self._streams.expected = None
            events.append(ConnectionReady())
        elif self._streams.max_streams != max_streams:
            events.append(CapacityChanged())
        if sender.initial_window > window:
            # Behind the acknowledgement: to the server, what comes before it still fits the former windows (RFC 9113
            # 6.5.3).
            waiting = [i for i, stream in streams.by_id.items() if stream.pending]
            self._patience.charge(len(waiting))
            for each in waiting:
                self._resume(each, streams.by_id[each], events)

    def _apply_setting(self, setting: int, value: int) -> None:
        match setting:
            case frames.ENABLE_PUSH if value:
                raise protocol_fault("a server that sends ENABLE_PUSH")
            case frames.MAX_CONCURRENT_STREAMS:
                self._streams.max_streams = min(value, MAX_STREAM_ID)
            case frames.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise flow_fault("an initial window above 2^31-1")
                self._sender.initial_window = value
            case frames.MAX_FRAME_SIZE:
                if not SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                    raise protocol_fault("MAX_FRAME_SIZE out of its range")
                self._sender.max_frame = value
            case frames.MAX_HEADER_LIST_SIZE:
                self._streams.peer_max_header_list = value
            case _:  # HEADER_TABLE_SIZE needs no answer, because hpack.NO_TABLE fits any value
                pass

    def receive_push_promise(self, _flags: int, _stream_id: int, _payload: bytes, _events: list[ClientEvent]) -> None:
        raise protocol_fault("PUSH_PROMISE, which our SETTINGS forbid")

    def receive_ping(self, flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        if stream_id:
            raise protocol_fault("PING on a stream")
        if len(payload) != 8:
            raise size_fault("PING")
        if flags & ACK and self._pings_sent:
            self._pings_sent -= 1
            events.append(PingAcknowledged(payload))
            return
        self._patience.charge()
        if not flags & ACK:
            self._sender.out.append(frame(frames.PING, ACK, 0, payload))

    def receive_goaway(self, _flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        if stream_id:
            raise protocol_fault("GOAWAY on a stream")
        if len(payload) < 8:
            raise size_fault("GOAWAY")
        self._patience.charge()
        last = frames.UINT32.unpack_from(payload)[0] & MAX_STREAM_ID
        code = frames.UINT32.unpack_from(payload, 4)[0]
        self._streams.is_going_away = True
        if last < self._goaway_last:
            self._goaway_last = last
            for refused in [each for each in self._streams.by_id if each > last]:
                self._streams.forget(refused)
                events.append(StreamNotProcessed(refused))
        events.append(GoingAway(code, payload[8:]))

    def receive_window_update(self, _flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        if len(payload) != frames.UINT32.size:
            raise size_fault("WINDOW_UPDATE")
        self._patience.charge()
        increment = frames.UINT32.unpack(payload)[0] & MAX_WINDOW
        if not stream_id:
            self._open_connection_window(increment, events)
            return
        stream = self._streams.by_id.get(stream_id)
        if stream is None:
            self._streams.refuse_idle(stream_id)
            return
        if not increment:
            raise ResponseFault(stream_id, ErrorCode.PROTOCOL_ERROR, "it sent a WINDOW_UPDATE of 0")
        stream.granted_out += increment
        if self._sender.room_of(stream) > MAX_WINDOW:
            raise ResponseFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "it opened a window beyond 2^31-1")
        if stream.pending:
            self._resume(stream_id, stream, events)

    def _open_connection_window(self, increment: int, events: list[ClientEvent]) -> None:
        if not increment:
            raise protocol_fault("a WINDOW_UPDATE of 0")
        self._sender.window += increment
        if self._sender.window > MAX_WINDOW:
            raise flow_fault("the connection's window above 2^31-1")
        events += map(WindowOpened, self._sender.resume_starved())

    def _resume(self, stream_id: int, stream: ClientStream, events: list[ClientEvent]) -> None:
        """Go on with a stream whose own window has opened."""
        if self._sender.resume(stream_id, stream):
            events.append(WindowOpened(stream_id))
