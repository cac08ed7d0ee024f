"""Divides the loop's time among connections that send faster than they are served, so that they do not hold up the others.

A read that is short of work is served at once. What a connection has sent beyond that waits here, and all that wait are served in turn,
a moment's work in each turn of the loop, however many they are. Meanwhile nothing more is read from them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

TURN = 0.0015
"""Seconds of work in one loop turn: for reads that are served at once, and again for connections that wait."""
_BRIEF = 0.0003
"""Seconds. A read that takes no longer leaves its connection as it was."""
_LIGHT_SHARE = 20
"""A connection is light if it takes less than one part in so many of the loop's time."""
CALLS_AT_ONCE = 20
"""Calls that connections that wait may begin or end in one turn. What a call costs comes later, in turns of its own."""
CALL_COST = 0.0001
"""Seconds: about what it costs to begin a call and to refuse it."""
_BUFFER_SIZE = 64 << 10
_MOST_WAITING = 4 << 20
"""Bytes that wait, of all connections, above which reads are small."""
_SMALL_READ = 2 << 10


class Waiting(Protocol):
    """A connection, as far as it waits for its turn."""

    def go_on(self, until: float) -> int:
        """Do some of what waits, until this time (monotonic seconds) or a little longer. Returns how many calls it began or ended."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether something is left that can be done now."""
        ...


class FairShare:
    """One for all connections of a server."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._turn = -1.0
        """The loop's time when the current turn began. It counts milliseconds, so short turns share one."""
        self._turn_ends = 0.0
        self._is_scheduled = False
        self._buffer = memoryview(bytearray(_BUFFER_SIZE))
        """Where all connections read into: what a read brings is copied at once."""
        self.waiting_bytes = 0
        """What has been read and waits to be served."""

    def buffer(self) -> memoryview:
        """Where to read into. Small while much waits, so that what waits stays bounded."""
        return self._buffer if self.waiting_bytes < _MOST_WAITING else self._buffer[:_SMALL_READ]

    def has_time(self, light_from: float, *, now: float, began: float) -> bool:
        """Whether a read is served at once. `now`: the loop's time; `began`: the time.

        `light_from`: what `light_from` said of the connection's last reads.
        """
        if now != self._turn:
            self._turn, self._turn_ends = now, began + TURN
        return began < self._turn_ends or began >= light_from

    def light_from(self, began: float, calls: int) -> float:
        """From when on a connection counts as light again whose read began then, and has begun or ended so many calls; 0: it does."""
        ended = monotonic()
        took = ended - began
        if calls:
            self._turn_ends -= calls * CALL_COST
            took += calls * CALL_COST
        return ended + took * _LIGHT_SHARE if took > _BRIEF else 0.0

    def wait(self, connection: Waiting) -> None:
        """Serve the connection when its turn comes. It must not wait already."""
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
