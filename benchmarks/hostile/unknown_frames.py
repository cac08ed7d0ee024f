"""Frames of unknown types without a payload, and a call of an unserved method for each 100 of them, which makes their
number legal.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from benchmarks.hostile import wire
from benchmarks.hostile.unroutable_calls import calls

CONFIG: str | None = None

_UNKNOWN = 0xEE
_FRAMES_PER_CALL = 100


def sending() -> Iterator[bytes]:
    return wire.gathered(_frames())


def _frames() -> Iterator[bytes]:
    unknown = wire.frame(_UNKNOWN, 0, 0) * _FRAMES_PER_CALL
    for call in calls("/bench.Nowhere/Say"):
        yield call
        yield unknown


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, sending)
