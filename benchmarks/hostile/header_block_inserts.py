"""Header blocks of 147 KB that enter 49,000 fields into the header table, each of which drives an older one out."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire
from benchmarks.hostile.header_block_literals import blocks_of

CONFIG: str | None = None

_TINY_INSERT = b"\x41\x01x"
"""With incremental indexing: the name of entry 1 (:authority), a value of one character."""


def sending() -> Iterator[bytes]:
    return blocks_of(_TINY_INSERT)


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
