"""Header lists just within the usual limits, full of table inserts, on streams that are reset at once: nothing in them
is refused.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire

CONFIG: str | None = None

_INSERT = b"\x40\x02xy\x01%c"


def sending() -> Iterator[bytes]:
    return wire.gathered(_requests())


def _requests() -> Iterator[bytes]:
    usual = wire.block_of("/bench.Nowhere/Say")
    block = usual + b"".join([_INSERT % (97 + number % 26) for number in range(90)])
    for stream_id in wire.stream_ids():
        yield wire.frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, stream_id, block)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
