"""deadline: aborts a call that outlives its deadline. Calls share loop timers, one for each 5 ms, because a timer each costs more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import DeadlineExceeded

_TICKS = 200
"""Buckets a second. A call is ended at most one bucket after its deadline, never before it."""

_FARTHEST = 24 * 3600.0
"""Deadlines farther away than this (seconds) get no timer: no call lives that long."""


class Deadlines:
    """The calls that wait for their deadline, by bucket."""

    __slots__ = ("_buckets", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, tuple[set[Call], asyncio.TimerHandle]] = {}

    def add(self, call: Call, deadline: float) -> int:
        """The bucket to discard the call from when it has ended."""
        tick = int(deadline * _TICKS) + 1
        found = self._buckets.get(tick)
        if found is None:
            # The loop's clock is the monotonic one in steps of 1 ms: a step later is never too early.
            timer = self._loop.call_at(tick / _TICKS + 0.001, self._ring, tick)
            found = self._buckets[tick] = (set(), timer)
        found[0].add(call)
        return tick

    def discard(self, call: Call, tick: int) -> None:
        found = self._buckets.get(tick)
        if found is None:
            return
        calls, timer = found
        calls.discard(call)
        if not calls:
            timer.cancel()
            del self._buckets[tick]

    def _ring(self, tick: int) -> None:
        calls, _ = self._buckets.pop(tick)
        for call in calls:
            call.abort(DeadlineExceeded("the deadline passed before the function answered"))


def deadline(inner: Handler, *, deadlines: Deadlines, clock: Callable[[], float]) -> Handler:
    """`clock` reads the monotonic time (seconds)."""

    async def bounded(call: Call) -> None:
        at = call.deadline
        if at is None:
            return await inner(call)
        now = clock()
        if at <= now:
            raise DeadlineExceeded("the deadline had passed when the call arrived")
        if at - now > _FARTHEST:
            return await inner(call)
        bucket = deadlines.add(call, at)
        try:
            await inner(call)
        finally:
            deadlines.discard(call, bucket)

    return bounded
