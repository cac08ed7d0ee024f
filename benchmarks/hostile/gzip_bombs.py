"""Messages of 4 KB that inflate to 4 MB, a hundred at a time on each of two connections, where the bridge inflates."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import AsyncIterator

from benchmarks.hostile import held, wire

CONFIG: str | None = """
services:
  bench.Inflated:
    target: arn:aws:lambda:us-east-1:123456789012:function:slow
    compression: identity
"""
IS_FOR_ENVOY = False

_AT_ONCE = 100


async def sending(windows: held.Windows) -> AsyncIterator[bytes]:
    block = wire.block_of("/bench.Inflated/Say", ("grpc-encoding", "gzip"))
    bomb = gzip.compress(bytes(4_000_000))
    message = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
    for stream_id in wire.stream_ids():
        await windows.ended_below(_AT_ONCE)
        windows.begin(stream_id)
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, block)
        yield wire.frame(wire.DATA, wire.END_STREAM, stream_id, message)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await held.hold(host, port, seconds, tls, sending, connections=2)
