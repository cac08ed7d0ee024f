"""Calls of methods that no route serves, at full speed: each is answered UNIMPLEMENTED."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = None


def sending() -> Iterator[bytes]:
    return wire.gathered(calls("/bench.Nowhere/Say"))


def calls(path: str) -> Iterator[bytes]:
    """Each as short as it can be: a header block of references, and no message."""
    first, other = wire.indexed_blocks(path)
    for stream_id in wire.stream_ids():
        block = first if stream_id == 1 else other
        yield wire.frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream_id, block)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
