"""Writes lines to a descriptor whose reader may stop. A terminal held by Ctrl-S, or a full pipe, loses lines and never
delays the writer.

Bytes without room wait here, up to a bound. The owner decides when to try again.
"""

from __future__ import annotations

import os
import select
from time import monotonic

_PIECE = select.PIPE_BUF
"""Bytes written at once, whole lines. A pipe that says it has room takes so many without waiting (pipe(7)), and between
the lines of other processes.
"""
MOST_WAITING = 1 << 20
"""Bytes that may wait for a reader that has stopped."""


class LossyWriter:
    """What is added leaves in order, in pieces of whole lines."""

    def __init__(self, descriptor: int, *, most_waiting: int = MOST_WAITING) -> None:
        self._descriptor = descriptor
        self._waiting = bytearray()
        self._most_waiting = most_waiting
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    @property
    def is_full(self) -> bool:
        """Whether more should be dropped in place of being added."""
        return len(self._waiting) > self._most_waiting

    @property
    def is_empty(self) -> bool:
        """Whether all has left."""
        return not self._waiting

    def add(self, lines: bytes) -> None:
        self._waiting += lines

    def write_out(self, *, patience: float = 0.0) -> None:
        """Write what can be written. `patience`: seconds to wait for room, in all."""
        lines, at = self._waiting, 0
        until = monotonic() + patience
        try:
            while at < len(lines) and self._room.poll(max(0.0, until - monotonic()) * 1000):
                at += os.write(self._descriptor, lines[at : _end_of_piece(lines, at)])
        except OSError:
            at = len(lines)  # nobody reads any more; what writes here goes on
        del lines[:at]


def _end_of_piece(lines: bytearray, at: int) -> int:
    if len(lines) - at <= _PIECE:
        return len(lines)
    return lines.rfind(b"\n", at, at + _PIECE) + 1 or at + _PIECE
