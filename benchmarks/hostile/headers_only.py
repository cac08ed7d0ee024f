"""1,000 calls without a body on each of four connections, held open: each could keep a place at its target."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

from benchmarks.hostile import held, wire

CONFIG: str | None = None

_STREAMS = 1_000


async def sending(_windows: held.Windows) -> AsyncIterator[bytes]:
    block = wire.block_of()
    frames = [wire.frame(wire.HEADERS, wire.END_HEADERS, 2 * number + 1, block) for number in range(_STREAMS)]
    yield b"".join(frames)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await held.hold(host, port, seconds, tls, sending, connections=4)
