"""1,000 calls of the health service's Watch on each of ten connections, held open."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

from benchmarks.hostile import held, wire

CONFIG: str | None = None
IS_FOR_ENVOY = False

_STREAMS = 1_000
_EVERYTHING = b"\0\0\0\0\0"
"""A HealthCheckRequest for the whole server."""


async def sending(_windows: held.Windows) -> AsyncIterator[bytes]:
    block = wire.block_of("/grpc.health.v1.Health/Watch")
    for number in range(_STREAMS):
        stream_id = 2 * number + 1
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, block)
        yield wire.frame(wire.DATA, wire.END_STREAM, stream_id, _EVERYTHING)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await held.hold(host, port, seconds, tls, sending, connections=10)
