"""Connections that are held open, by a client that keeps to the server's windows and sees which of its streams have
ended.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from benchmarks.hostile import wire

_HEAD = 9
_PAUSE = 0.05
"""Seconds until the next try to connect, and between two looks at what is awaited."""
_DEFAULT_WINDOW = 65_535
_ACK = 0x1


class Windows:
    """What the server lets one connection send, and the streams that it has not ended."""

    def __init__(self) -> None:
        self._initial = _DEFAULT_WINDOW
        self._connection = _DEFAULT_WINDOW
        self._streams: dict[int, int] = {}
        self._open: set[int] = set()
        self._changed = asyncio.Event()
        self._partial = bytearray()

    def begin(self, stream_id: int) -> None:
        self._open.add(stream_id)

    def take(self, stream_id: int, size: int) -> int:
        """How much of so many bytes may be sent on the stream; they count as sent."""
        window = self._streams.get(stream_id, self._initial)
        size = max(0, min(size, window, self._connection))
        self._streams[stream_id] = window - size
        self._connection -= size
        return size

    async def opened(self) -> None:
        """Return when a window may have opened."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                await self._changed.wait()
        self._changed.clear()

    async def ended_below(self, most: int) -> None:
        """Return when fewer streams than this are open."""
        while len(self._open) >= most:
            await self.opened()

    def feed(self, data: bytes) -> bytes:
        """What the server sent; returns what answers it."""
        answers = b""
        self._partial += data
        while len(self._partial) >= _HEAD:
            size = _HEAD + int.from_bytes(self._partial[:3], "big")
            if len(self._partial) < size:
                break
            frame = bytes(self._partial[:size])
            del self._partial[:size]
            answers += self._take_frame(frame[3], frame[4], int.from_bytes(frame[5:9], "big"), frame[_HEAD:])
        self._changed.set()
        return answers

    def _take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
        if kind == wire.SETTINGS and not flags & _ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == wire.INITIAL_WINDOW_SIZE:
                    self._initial = int.from_bytes(payload[at + 2 : at + 6], "big")
            return wire.frame(wire.SETTINGS, _ACK, 0)
        if kind == wire.PING and not flags & _ACK:
            return wire.frame(wire.PING, _ACK, 0, payload)
        if kind == wire.WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            if stream_id:
                self._streams[stream_id] = self._streams.get(stream_id, self._initial) + increment
            else:
                self._connection += increment
        if kind == wire.RST_STREAM or (kind == wire.HEADERS and flags & wire.END_STREAM):
            self._open.discard(stream_id)
            self._streams[stream_id] = 0
        return b""


Sending = Callable[[Windows], AsyncIterator[bytes]]
"""Makes what one connection sends behind its first SETTINGS. After its end the connection stays open."""


async def hold(
    host: str,
    port: int,
    seconds: float,
    tls: ssl.SSLContext | None,
    sending: Sending,
    *,
    settings: bytes = b"",
    connections: int = 1,
) -> int:
    """Send and stay until the time is over, on so many connections; one that is cut off connects again. Returns the
    bytes sent.
    """
    until = asyncio.get_running_loop().time() + seconds
    holders = [_Holder(host, port, tls, sending, settings) for _ in range(connections)]
    await asyncio.gather(*[holder.run(until) for holder in holders])
    return sum(holder.sent for holder in holders)


class _Holder:
    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, sending: Sending, settings: bytes) -> None:
        self._address = (host, port)
        self._tls = tls
        self._sending = sending
        self._opening = wire.preface(settings)
        self.sent = 0

    async def run(self, until: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while True:
                    with suppress(OSError):
                        await self._hold_once()
                    await asyncio.sleep(_PAUSE)

    async def _hold_once(self) -> None:
        """Over one connection, until it is cut off."""
        name = "localhost" if self._tls is not None else None
        reader, writer = await asyncio.open_connection(*self._address, ssl=self._tls, server_hostname=name)
        windows = Windows()
        reading = asyncio.get_running_loop().create_task(self._read(reader, writer, windows))
        try:
            await self._send(writer, self._opening)
            async for piece in self._sending(windows):
                if reading.done():
                    return
                await self._send(writer, piece)
            await reading
        finally:
            reading.cancel()
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, windows: Windows) -> None:
        while data := await reader.read(1 << 18):
            answers = windows.feed(data)
            if answers:
                writer.write(answers)
                self.sent += len(answers)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)
