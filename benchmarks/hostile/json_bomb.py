"""Small requests for a JSON function that are dear to convert: 4 KB of gzip with 4 MB of empty messages, 16 KB without,
deep nesting.

Besides, the function answers with JSON that is dear to read: empty objects, 100,000 levels, a key that errors would
repeat.
"""

from __future__ import annotations

import gzip
import ssl

import grpc

from benchmarks.hostile import json_service
from benchmarks.hostile.json_service import Request

CONFIG: str | None = json_service.CONFIG
IS_FOR_ENVOY = False

_EMPTY = b"\x42\x00"
"""An Order in `parts`, without a field."""
_AT_ONCE = 50


def _bomb(message: bytes) -> Request:
    return Request("Say", message, grpc.Compression.Gzip, len(gzip.compress(message)))


def _nested(levels: int) -> bytes:
    message = b""
    for _ in range(levels):
        size = len(message)
        message = b"\x42" + bytes((size & 0x7F | 0x80, size >> 7)) + message
    return message


_REQUESTS = [
    _bomb(_EMPTY * 2_000_000),
    Request("Say", _EMPTY * 8_000),
    _bomb(b"\x3a\x80\x80\xc0\x01" + bytes(3 << 20)),  # three million packed numbers
    Request("Say", _nested(90)),
    Request("Nested", b""),
    Request("Say", _EMPTY * 300),
    Request("Empty", b""),
    Request("LongKey", b""),
]


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await json_service.call_in_turn(host, port, seconds, tls, _REQUESTS, at_once=_AT_ONCE)
