"""Thousands of connections that stay open: a third sends nothing, a third HTTP/2's preface, a third the beginning of a
call as well.

Each that the server ends is opened anew at once. With TLS the first third never begins a handshake.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections import deque
from contextlib import suppress
from itertools import count

from benchmarks.hostile import wire

CONFIG: str | None = None

_AT_ONCE = 64
"""Connections that are being opened at the same time."""
_MOST = 12_000
"""Connections that are held at the same time: more than `max_connections.total` is by default."""
_SOURCE = ("127.0.0.2", 0)
"""Another address than the neighbour's: connections are given up by peer."""
_OTHER_FILES = 100
"""File descriptors that this process needs for other things."""

_BEGUN = wire.preface()
_CALL = wire.split(1, wire.block_of(), flags=0)
"""A request whose body never comes."""
_OPENINGS = (b"", _BEGUN, _BEGUN + _CALL)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    """Returns the bytes sent."""
    attacker = _Attacker(host, port, tls)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as opening:
            for _ in range(_AT_ONCE):
                opening.create_task(attacker.open_without_end())
    attacker.close()
    return attacker.sent


class _Attacker:
    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._address = (host, port)
        self._tls = tls
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(_MOST, files - _OTHER_FILES)
        self._held: deque[asyncio.StreamWriter] = deque()
        self._turns = count()
        self.sent = 0

    async def open_without_end(self) -> None:
        while True:
            if len(self._held) >= self._most:
                self._held.popleft().transport.abort()
            with suppress(OSError):
                await self._open(_OPENINGS[next(self._turns) % len(_OPENINGS)])
            await asyncio.sleep(0)

    async def _open(self, opening: bytes) -> None:
        tls = self._tls if opening else None
        name = "localhost" if tls is not None else None
        _, writer = await asyncio.open_connection(*self._address, ssl=tls, server_hostname=name, local_addr=_SOURCE)
        self._held.append(writer)
        writer.write(opening)
        self.sent += len(opening)

    def close(self) -> None:
        for writer in self._held:
            writer.transport.abort()
