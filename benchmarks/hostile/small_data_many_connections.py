"""The attack of small_data.py on 50 connections at the same time."""

from __future__ import annotations

import ssl

from benchmarks.hostile import small_data, wire

CONFIG: str | None = None

_CONNECTIONS = 50


async def attack(host: str, port: int, seconds: float, tls: ssl.SSLContext | None = None) -> int:
    return await wire.flood(host, port, seconds, tls, small_data.sending, connections=_CONNECTIONS)
