"""Whole calls at full speed on one connection, to a target that takes four calls at a time: up to 1,000 wait in its
queue.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = "defaults: {max_concurrency: 4}"
IS_FOR_ENVOY = False

_REQUEST = b"\0\0\0\0\x07\n\x05world"


def sending() -> Iterator[bytes]:
    return wire.gathered(_frames())


def _frames() -> Iterator[bytes]:
    block = wire.block_of()
    for stream_id in wire.stream_ids():
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, block)
        yield wire.frame(wire.DATA, wire.END_STREAM, stream_id, _REQUEST)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
