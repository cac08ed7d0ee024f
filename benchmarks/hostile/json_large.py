"""Ordinary JSON, but much of it: requests that become 0.4 MB, replies of 1 MB and 4 MB, and many that are just small
enough.
"""

from __future__ import annotations

import ssl

from benchmarks.hostile import json_service
from benchmarks.hostile.json_service import Request

CONFIG: str | None = json_service.CONFIG
IS_FOR_ENVOY = False

_ORDER = b"\x42\x1d\x0a\x09order-123\x10\x8a\x0f\x1a\x07at home\x2a\x04\x0a\x02ab"
"""In `parts`: about 120 bytes of JSON."""
_AT_ONCE = 20

_REQUESTS = [
    Request("Say", _ORDER * 3_500),
    Request("Large", b""),
    Request("Say", _ORDER * 50),
    Request("Huge", b""),
    Request("Say", _ORDER * 400),
]


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await json_service.call_in_turn(host, port, seconds, tls, _REQUESTS, at_once=_AT_ONCE)
