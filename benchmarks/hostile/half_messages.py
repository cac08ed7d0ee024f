"""Messages that declare 60 MB and never end, sixteen on each of eight connections, as far as the windows allow."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

from benchmarks.hostile import held, wire

CONFIG: str | None = """
services:
  bench.Huge:
    target: arn:aws:lambda:us-east-1:123456789012:function:greeter
    max_request: 64MiB
    max_buffered: 64MiB
"""
IS_FOR_ENVOY = False

_STREAMS = 16
_DECLARED = 60_000_000


async def sending(windows: held.Windows) -> AsyncIterator[bytes]:
    block = wire.block_of("/bench.Huge/Upload")
    streams = [2 * number + 1 for number in range(_STREAMS)]
    for stream_id in streams:
        yield wire.frame(wire.HEADERS, wire.END_HEADERS, stream_id, block)
        yield wire.frame(wire.DATA, 0, stream_id, b"\0" + _DECLARED.to_bytes(4, "big"))
    part = b"x" * wire.LARGEST_FRAME
    while True:
        await windows.opened()
        for stream_id in streams:
            size = windows.take(stream_id, len(part))
            if size:
                yield wire.frame(wire.DATA, 0, stream_id, part[:size])


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await held.hold(host, port, seconds, tls, sending, connections=8)
