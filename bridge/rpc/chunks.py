"""Bytes that wait in the pieces in which they came."""

from __future__ import annotations

from collections import deque

_SMALL = 1024
"""Bytes below which a piece is joined to the one before it."""
_JOINED = 64 << 10
"""Bytes from which a piece is not joined to any more."""

Chunks = deque[bytes | bytearray]


def keep(chunks: Chunks, data: bytes) -> None:
    """Put it behind the others. Small pieces are joined: kept apart, the objects around a million of them would
    outweigh them tenfold.
    """
    if len(data) >= _SMALL or not chunks or len(chunks[-1]) >= _JOINED:
        chunks.append(data)
        return
    last = chunks[-1]
    if not isinstance(last, bytearray):
        last = chunks[-1] = bytearray(last)
    last += data
