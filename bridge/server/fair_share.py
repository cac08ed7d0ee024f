"""Divides the loop's time among connections that send faster than they are served, so that they do not delay the
others.

A read with little work is served at once. Anything beyond that waits here. Waiting connections are served one after the
other, for a short time in each turn of the loop. Nothing is read from them meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

TURN = 0.0015
"""Seconds of work in one loop turn: for reads that are served at once, and again for connections that wait."""
_BRIEF = 0.0003
"""Seconds. A shorter read does not change whether its connection counts as light."""
_LIGHT_SHARE = 20
"""A connection is light if it takes less than this fraction (one in so many) of the loop's time."""
CALLS_AT_ONCE = 20
"""Calls that waiting connections may begin or end in one turn. Most of a call's cost comes in later turns."""
_CALL_COST = 0.0001
"""Seconds that it takes to begin a call and to refuse it."""
_BUFFER_SIZE = 64 << 10
_MOST_WAITING = 4 << 20
"""Waiting bytes of all connections above which reads are small."""
_SMALL_READ = 2 << 10


class Waiting(Protocol):
    """A connection that waits for its turn."""

    def go_on(self, until: float) -> int:
        """Do some of the waiting work, until this time (monotonic seconds) or a little longer. Returns how many calls
        began or ended.
        """
        ...

    @property
    def is_behind(self) -> bool:
        """Whether something is left that can be done now."""
        ...


class FairShare:
    """The queue that all connections of a server share."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._turn = -1.0
        """The loop's time when the current turn began. It has a resolution of milliseconds, so short turns share one
        value.
        """
        self._turn_ends = 0.0
        self._is_scheduled = False
        self._buffer = memoryview(bytearray(_BUFFER_SIZE))
        """The buffer that all connections read into. The bytes of a read are copied at once."""
        self.waiting_bytes = 0
        """Bytes that were read and wait to be served."""

    def buffer(self) -> memoryview:
        """Return the buffer to read into. It is small while much waits, so that the waiting bytes stay bounded."""
        return self._buffer if self.waiting_bytes < _MOST_WAITING else self._buffer[:_SMALL_READ]

    def has_time(self, light_from: float, *, now: float, began: float) -> bool:
        """Whether a read is served at once. `now` is the loop's time, `began` the real time. `light_from` is what
        `light_from` returned for the connection's last reads.
        """
        if now != self._turn:
            self._turn, self._turn_ends = now, began + TURN
        return began < self._turn_ends or began >= light_from

    def light_from(self, began: float, calls: int) -> float:
        """Return the time from which a connection counts as light again, after a read that began then and began or
        ended this many calls. 0 means now.
        """
        ended = monotonic()
        took = ended - began
        if calls:
            self._turn_ends -= calls * _CALL_COST
            took += calls * _CALL_COST
        return ended + took * _LIGHT_SHARE if took > _BRIEF else 0.0

    def wait(self, connection: Waiting) -> None:
        """Serve the connection when its turn comes. It must not be waiting already."""
        self._waiting.append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._is_scheduled = False
        waiting, until, calls = self._waiting, monotonic() + TURN, 0
        for _ in range(len(waiting)):
            connection = waiting.popleft()
            calls += connection.go_on(until)
            if connection.is_behind:
                waiting.append(connection)
            if calls >= CALLS_AT_ONCE or monotonic() >= until:
                break
        if waiting:
            self._schedule()
