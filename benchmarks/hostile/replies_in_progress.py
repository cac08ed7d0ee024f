"""A hundred calls at a time whose replies have 1 MB, on a connection whose windows stay shut."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

from benchmarks.hostile import held, wire

CONFIG: str | None = None

_AT_ONCE = 100
_REQUEST = b"\0\0\0\0\x07\n\x05world"


async def sending(windows: held.Windows) -> AsyncIterator[bytes]:
    block = wire.block_of("/bench.Sized1048576/Say")
    for stream_id in wire.stream_ids():
        await windows.ended_below(_AT_ONCE)
        windows.begin(stream_id)
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, block)
        yield wire.frame(wire.DATA, wire.END_STREAM, stream_id, _REQUEST)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    shut = wire.setting(wire.INITIAL_WINDOW_SIZE, 0)
    return await held.hold(host, port, seconds, tls, sending, settings=shut)
