"""What a connection knows of its sent bytes: which calls have left and arrived, and whether the server reads."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from bridge.carriers.arrival import not_arrived
from bridge.rpc.errors import ConnectionLost, NotProcessed, RpcError

MAX_CHOKED = 1 << 20
"""Bytes that may wait to be sent while the server reads nothing. Bodies do not count: they wait elsewhere."""

REMEMBERED_FLUSHES = 64
"""The number of writes with new streams for which the bridge can tell whether they arrived."""


class SentStreams:
    """Knows which calls have left, and which have arrived: a call that has not may be sent again."""

    __slots__ = ("_arrived", "_flushes", "_last", "_written")

    def __init__(self) -> None:
        self._last = 0
        """The last stream whose HEADERS have been handed to the transport."""
        self._written = 0
        """Bytes handed to the transport."""
        self._flushes: deque[tuple[int, int, int]] = deque(maxlen=REMEMBERED_FLUSHES)
        """The last writes that began streams: their first and last stream, and the bytes written before."""
        self._arrived: int | None = None
        """How many of the written bytes had reached the server when it closed the connection. None if that is unknown.
        """

    def wrote(self, size: int, *, last_stream: int) -> None:
        """Note a write of this many bytes. `last_stream` is the newest stream whose HEADERS are among all bytes."""
        if last_stream > self._last:
            self._flushes.append((self._last + 1, last_stream, self._written))
            self._last = last_stream
        self._written += size

    def closed_by_server(self, transport: asyncio.Transport) -> None:
        """Note how many bytes have arrived. Call it when the end of the server's stream has been read."""
        opened = transport.get_extra_info("socket")
        # With TLS, the written bytes and the sent bytes differ.
        if transport.get_extra_info("ssl_object") is not None or opened is None or opened.family == socket.AF_UNIX:
            return
        queued = not_arrived(opened.fileno())
        if queued is not None:
            self._arrived = self._written - queued - transport.get_write_buffer_size()

    def loss_of(self, stream_id: int, name: str, error: RpcError | None, cause: BaseException | None) -> RpcError:
        """Return the error for a stream that ends with its connection. Each stream gets its own, because a shared
        exception would collect tracebacks. `name` is the server's. A lost connection has no `error`. A call that was
        sent may have run, whatever has ended its connection.
        """
        loss: RpcError
        if stream_id > self._last:
            loss = NotProcessed(f"the connection to {name} was lost before the call was sent")
        elif error is None and self._has_not_arrived(stream_id):
            loss = NotProcessed(f"{name} closed the connection before the call arrived")
        elif error is not None and error.may_have_run:
            loss = type(error)(*error.args)
        else:
            cause = cause or error
            loss = ConnectionLost(f"the connection to {name} was lost before the call ended; it may have run")
        loss.__cause__ = cause
        return loss

    def _has_not_arrived(self, stream_id: int) -> bool:
        """Whether the server provably closed the connection before the headers of this stream had arrived."""
        if self._arrived is None:
            return False
        return any(first <= stream_id <= last and start >= self._arrived for first, last, start in self._flushes)


class Backpressure:
    """Follows a transport that accepts no more bytes for now."""

    __slots__ = ("_bytes", "_room", "_since", "_waiting", "is_choked")

    def __init__(self) -> None:
        self.is_choked = False
        self._since = 0.0
        """Since when the server has taken nothing (loop time), and (below) how many bytes waited then."""
        self._waiting = 0
        self._bytes = 0
        """Bytes written since the transport has been choked."""
        self._room: asyncio.Future[None] | None = None
        """Pending while a sender waits."""

    def begin(self, transport: asyncio.Transport, now: float) -> None:
        """Note that the transport accepts no more."""
        self.is_choked = True
        self._since = now
        self._waiting = _waiting_bytes(transport)
        self._bytes = 0

    def end(self) -> None:
        """Note that the transport accepts bytes again, or has ended."""
        self.is_choked = False
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    async def room(self) -> None:
        """Wait until the transport accepts bytes again. Call it only while it is choked."""
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def wrote(self, size: int) -> bool:
        """Note a write of this many bytes. Returns False if too many wait."""
        if self.is_choked:
            self._bytes += size
        return not self.is_choked or self._bytes <= MAX_CHOKED

    def allowed(self, size: int) -> None:
        """Note that the server has opened its windows for so many waiting body bytes: it reads. These bytes do not
        count.
        """
        self._bytes -= size

    def stalled_for(self, transport: asyncio.Transport, now: float) -> float:
        """Seconds since the server last took anything, as far as this is called often. 0 while the transport is not
        choked.
        """
        if not self.is_choked:
            return 0.0
        before, self._waiting = self._waiting, _waiting_bytes(transport)
        if self._waiting < before:
            self._since = now
        return now - self._since


def _waiting_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the server has not taken: ours, and on Linux the system's as well, which takes many at a time."""
    opened = transport.get_extra_info("socket")
    of_system = None if opened is None else not_arrived(opened.fileno())
    size: int = transport.get_write_buffer_size() + (of_system or 0)
    return size
