"""What the client's engine sends on its connection: header blocks, and body bytes as the server's windows allow."""

from __future__ import annotations

from collections import OrderedDict, deque

from bridge.http2 import frames, hpack
from bridge.http2.events import Fields
from bridge.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    SMALLEST_MAX_FRAME,
    frame,
    pack_head,
)
from bridge.rpc.chunks import keep


class ClientStream:
    """One stream that has begun and not ended."""

    __slots__ = (
        "ends",
        "granted_out",
        "has_response",
        "interim",
        "is_half_closed",
        "offset",
        "pending",
        "uncredited",
        "window_in",
    )

    def __init__(self, window_in: int) -> None:
        self.window_in = window_in
        """Bytes that the server may still send."""
        self.uncredited = 0
        """Bytes consumed that no WINDOW_UPDATE has covered yet."""
        self.granted_out = 0
        """Bytes we may send, relative to the server's initial window. A change of that window then touches no stream.
        """
        self.pending: deque[bytes | bytearray] | None = None
        """Body bytes that wait for the server's windows."""
        self.offset = 0
        """How many bytes of the first piece have been sent."""
        self.ends = False
        """END_STREAM follows the pending bytes."""
        self.is_half_closed = False
        """Our END_STREAM has been queued."""
        self.has_response = False
        self.interim = 0


class ClientSender:
    """Keeps the frames until the engine takes them, and the body bytes that wait for a window."""

    __slots__ = (
        "_has_sent_block",
        "_starved",
        "_tail",
        "data_frames",
        "initial_window",
        "max_frame",
        "out",
        "queued_bytes",
        "window",
    )

    def __init__(self) -> None:
        self.out: list[bytes] = []
        """Frames that have not been taken."""
        self.window = frames.DEFAULT_WINDOW
        """Bytes that the connection's window lets us send."""
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = SMALLEST_MAX_FRAME
        self.queued_bytes = 0
        """Body bytes that wait for the server's windows."""
        self.data_frames = 0
        """DATA frames with a body that were queued."""
        self._starved: OrderedDict[int, ClientStream] = OrderedDict()
        """Streams that wait only for the connection's window, the longest waiting first."""
        self._has_sent_block = False
        self._tail: tuple[int, int, int] | None = None
        """The last queued DATA frame: its stream, its size, and the position of its head in `out`."""

    def take(self) -> bytes:
        """Return everything queued, once."""
        if not self.out:
            return b""
        data = b"".join(self.out)
        self.out.clear()
        self._tail = None
        return data

    def room_of(self, stream: ClientStream) -> int:
        """Return the bytes that the stream's own window lets us send. They are negative after the server has shrunk its
        initial window (6.9.2).
        """
        return self.initial_window + stream.granted_out

    # -- commands ------------------------------------------------------------------------------------------------------

    def send_head(self, stream_id: int, fields: Fields, *, ended: bool) -> None:
        """Queue the header block that begins a stream."""
        block = hpack.encode(fields)
        if not self._has_sent_block:
            self._has_sent_block = True
            block = hpack.NO_TABLE + block
        flags = END_STREAM if ended else 0
        size, step = len(block), self.max_frame
        if size <= step:
            self.out += (pack_head(size >> 8, size & 0xFF, HEADERS, flags | END_HEADERS, stream_id), block)
            return
        parts = [block[at : at + step] for at in range(0, size, step)]
        self.out.append(frame(HEADERS, flags, stream_id, parts[0]))
        self.out += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
        self.out.append(frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))

    def send_body(self, stream_id: int, stream: ClientStream, data: bytes) -> None:
        """Queue body bytes, or let them wait for the server's windows."""
        size = len(data)
        if not stream.pending and size <= self.room_of(stream) and size <= self.window and size <= self.max_frame:
            self._send_frame(stream_id, stream, data)
            return
        if stream.pending is None:
            stream.pending = deque()
        keep(stream.pending, data)
        self.queued_bytes += size
        self._send_pending(stream_id, stream)

    def send_end(self, stream_id: int, stream: ClientStream) -> None:
        """End our side of the stream. Nothing waits on it."""
        stream.is_half_closed = True
        if self._tail is not None and self._tail[0] == stream_id:
            # The stream's last DATA frame is still queued, so it can carry END_STREAM.
            _, size, at = self._tail
            self.out[at] = pack_head(size >> 8, size & 0xFF, DATA, END_STREAM, stream_id)
            self._tail = None
        else:
            self.out.append(pack_head(0, 0, DATA, END_STREAM, stream_id))

    def drop(self, stream_id: int, stream: ClientStream) -> None:
        """Forget what waits on the stream."""
        if stream.pending:
            self.queued_bytes -= sum([len(each) for each in stream.pending]) - stream.offset
            self._starved.pop(stream_id, None)

    def clear(self) -> None:
        """Forget what waits on all streams."""
        self._starved.clear()
        self.queued_bytes = 0

    # -- windows that have opened --------------------------------------------------------------------------------------

    def resume(self, stream_id: int, stream: ClientStream) -> bool:
        """Go on with a stream whose own window has opened. Returns whether it has room for more."""
        self._send_pending(stream_id, stream)
        return self._settle(stream_id, stream)

    def resume_starved(self) -> list[int]:
        """Go on after the connection's window has opened. Returns the streams that have room for more.

        Each stream sends one frame in turn, so that one long message does not delay the others.
        """
        with_room = []
        while self.window > 0 and self._starved:
            stream_id, stream = self._starved.popitem(last=False)
            if self.room_of(stream) > 0:
                self._send_part(stream_id, stream)
            if self._settle(stream_id, stream):
                with_room.append(stream_id)
        return with_room

    def _settle(self, stream_id: int, stream: ClientStream) -> bool:
        """After sending what the windows allowed: wait again, end our side, or report that there is room."""
        if stream.pending:
            if self.room_of(stream) > 0:
                self._starved[stream_id] = stream
            return False
        if stream.ends:
            self.send_end(stream_id, stream)
            return False
        return True

    def _send_pending(self, stream_id: int, stream: ClientStream) -> None:
        """Send what the windows allow for a stream with waiting bytes."""
        while stream.pending and self.window > 0 and self.room_of(stream) > 0:
            self._send_part(stream_id, stream)
        if stream.pending and self.room_of(stream) > 0:
            self._starved[stream_id] = stream

    def _send_part(self, stream_id: int, stream: ClientStream) -> None:
        """Send one DATA frame of the waiting bytes. All windows are open."""
        assert stream.pending
        first, offset = stream.pending[0], stream.offset
        room = min(self.room_of(stream), self.window, self.max_frame)
        part = bytes(memoryview(first)[offset : offset + room])
        size = len(part)
        if offset + size == len(first):
            stream.pending.popleft()
            stream.offset = 0
        else:
            stream.offset += size
        self.queued_bytes -= size
        self._send_frame(stream_id, stream, part)

    def _send_frame(self, stream_id: int, stream: ClientStream, data: bytes) -> None:
        size = len(data)
        stream.granted_out -= size
        self.window -= size
        self.data_frames += 1
        self._tail = (stream_id, size, len(self.out))
        self.out += (pack_head(size >> 8, size & 0xFF, DATA, 0, stream_id), data)
