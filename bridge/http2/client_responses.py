"""The frames that carry responses: HEADERS, CONTINUATION, DATA and RST_STREAM. Each becomes events of its stream, or is
refused. The windows that the server sends into are kept here.
"""

from __future__ import annotations

from bridge.http2 import frames, hpack
from bridge.http2.client_events import ClientEvent, ResponseReceived, TrailersReceived
from bridge.http2.client_limits import ClientLimits, Patience
from bridge.http2.client_sender import ClientSender, ClientStream
from bridge.http2.client_streams import ResponseFault, StreamTable
from bridge.http2.events import DataReceived, ErrorCode, Fields, StreamReset, ViolationKind
from bridge.http2.faults import ConnectionFault, flow_fault, protocol_fault, size_fault
from bridge.http2.frames import CONTINUATION, END_HEADERS, END_STREAM, HAS_PRIORITY, PADDED
from bridge.http2.headers import HeaderList, response_fault, response_trailers_fault

MAX_INTERIM = 16
"""Most interim responses (1xx) on one stream. More of them end the stream."""

_CREDIT_SHARE = 2
"""A window is refilled when this fraction of it (one in so many) has been consumed."""

_SHORTEST_DATA = 5
"""A DATA frame shorter than this carries no gRPC message."""


class _OpenBlock:
    """The parts of a header block, and what its HEADERS frame said."""

    __slots__ = ("flags", "parts", "size", "stream_id")

    def __init__(self, flags: int, stream_id: int, first: bytes) -> None:
        self.flags = flags
        self.stream_id = stream_id
        self.parts = [first]
        self.size = len(first)


class ResponseReceiver:
    """Methods raise ResponseFault for a fault of one stream, and ConnectionFault for one of the connection."""

    __slots__ = (
        "_block",
        "_by_id",
        "_connection_step",
        "_decode",
        "_max_block",
        "_patience",
        "_sender",
        "_step",
        "_streams",
        "_uncredited",
        "_window_in",
    )

    def __init__(self, limits: ClientLimits, streams: StreamTable, sender: ClientSender, patience: Patience) -> None:
        self._streams = streams
        self._by_id = streams.by_id
        self._sender = sender
        self._patience = patience
        self._decode = hpack.Decoder(max_list=limits.max_header_list, max_metadata=limits.max_header_fields).decode
        self._max_block = limits.max_header_block
        self._block: _OpenBlock | None = None
        """A header block that has begun and not ended."""
        self._step = -(-limits.stream_window // _CREDIT_SHARE)
        self._connection_step = -(-limits.connection_window // _CREDIT_SHARE)
        self._window_in = limits.connection_window
        self._uncredited = 0

    def forget_block(self) -> None:
        """Release a header block that will never end."""
        self._block = None

    def receive_data(self, flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        size = len(payload)
        self._window_in -= size
        if self._window_in < 0:
            raise flow_fault("more DATA than the connection's window")
        self._credit_connection(size)
        if size >= _SHORTEST_DATA:
            self._patience.data_arrived()
        elif not flags & END_STREAM:
            self._patience.charge()
        stream = self._by_id.get(stream_id)
        if stream is None:
            self._streams.refuse_idle(stream_id)
            self._patience.charge()
            self._streams.late_room -= size
            if self._streams.late_room < 0:
                raise ConnectionFault(
                    ErrorCode.STREAM_CLOSED, ViolationKind.STREAM_CLOSED, "DATA for streams that have ended"
                )
            return
        stream.window_in -= size
        if stream.window_in < 0:
            raise ResponseFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "it sent more than its window allows")
        if not stream.has_response:
            raise ResponseFault(stream_id, ErrorCode.PROTOCOL_ERROR, "it sent a body before its headers")
        if flags & PADDED:
            payload = _unpadded(payload)
            self.credit(stream_id, stream, size - len(payload))
        ended = flags & END_STREAM != 0
        if payload or ended:
            events.append(DataReceived(stream_id, payload, ended))
        if ended:
            self._streams.end(stream_id, stream)

    def receive_headers(self, flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & HAS_PRIORITY:
            if len(payload) < frames.PRIORITY_SIZE:
                raise size_fault("HEADERS")
            payload = payload[frames.PRIORITY_SIZE :]
        if flags & END_HEADERS:
            self._receive_block(flags, stream_id, payload, events)
            return
        self._streams.expected = CONTINUATION
        self._block = _OpenBlock(flags, stream_id, payload)

    def receive_continuation(self, flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        block = self._block
        if block is None or stream_id != block.stream_id:
            raise protocol_fault("a CONTINUATION that continues nothing")
        self._patience.charge()
        block.size += len(payload)
        if block.size > self._max_block:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, ViolationKind.CONTINUATIONS, "header_block_too_large")
        block.parts.append(payload)
        if flags & END_HEADERS:
            self._streams.expected = self._block = None
            self._receive_block(block.flags, stream_id, b"".join(block.parts), events)

    def _receive_block(self, flags: int, stream_id: int, block: bytes, events: list[ClientEvent]) -> None:
        """Take a whole header block: of a response, of its trailers, or of a stream that is over."""
        # The block is always read, because it may change the table that the next block relies on.
        decoded = self._decode(block)
        stream = self._by_id.get(stream_id)
        if stream is None:
            self._streams.refuse_idle(stream_id)
            self._patience.charge()
            return
        if decoded.work:
            # The refused block has cost as much as this many small frames.
            self._patience.charge(decoded.work >> 10)
        _refuse_unsound(stream_id, decoded)
        ended = flags & END_STREAM != 0
        if stream.has_response:
            self._receive_trailers(stream_id, stream, decoded.fields, events, ended=ended)
        else:
            self._receive_response(stream_id, stream, decoded.fields, events, ended=ended)

    def _receive_response(
        self, stream_id: int, stream: ClientStream, fields: Fields, events: list[ClientEvent], *, ended: bool
    ) -> None:
        fault = response_fault(fields)
        if fault is not None:
            raise ResponseFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        if fields[0][1][0] == "1":
            # RFC 9110 15.2: this is interim, and the response follows.
            self._patience.charge()
            stream.interim += 1
            if ended or stream.interim > MAX_INTERIM:
                raise ResponseFault(
                    stream_id, ErrorCode.PROTOCOL_ERROR, "it sent interim responses (1xx) and no response"
                )
            return
        stream.has_response = True
        events.append(ResponseReceived(stream_id, fields, ended))
        if ended:
            self._streams.end(stream_id, stream)

    def _receive_trailers(
        self, stream_id: int, stream: ClientStream, fields: Fields, events: list[ClientEvent], *, ended: bool
    ) -> None:
        if not ended:
            raise ResponseFault(
                stream_id, ErrorCode.PROTOCOL_ERROR, "it sent a second header block that does not end the stream"
            )
        fault = response_trailers_fault(fields)
        if fault is not None:
            raise ResponseFault(stream_id, ErrorCode.PROTOCOL_ERROR, fault)
        events.append(TrailersReceived(stream_id, fields))
        self._streams.end(stream_id, stream)

    def receive_rst_stream(self, _flags: int, stream_id: int, payload: bytes, events: list[ClientEvent]) -> None:
        if len(payload) != frames.UINT32.size:
            raise size_fault("RST_STREAM")
        if stream_id not in self._by_id:
            self._streams.refuse_idle(stream_id)
            self._patience.charge()
            return
        (code,) = frames.UINT32.unpack(payload)
        self._streams.forget(stream_id)
        events.append(StreamReset(stream_id, code, by_peer=True))

    def credit(self, stream_id: int, stream: ClientStream, size: int) -> bool:
        """Let the server send as many more body bytes. Returns False if nothing was queued: small credits are
        collected.
        """
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


def _refuse_unsound(stream_id: int, decoded: HeaderList) -> None:
    """Raise for a header list that no stream may have."""
    if decoded.excess:
        raise ResponseFault(
            stream_id, ErrorCode.CANCEL, "its header list is too large or has too many fields", is_too_large=True
        )
    if decoded.flaw is not None:
        raise ResponseFault(stream_id, ErrorCode.PROTOCOL_ERROR, decoded.flaw)


def _unpadded(payload: bytes) -> bytes:
    """Return the payload without its padding (RFC 9113 6.1). Raises ConnectionFault."""
    if not payload or payload[0] >= len(payload):
        raise protocol_fault("padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
