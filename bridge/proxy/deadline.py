"""deadline: aborts a call that outlives its deadline. Calls share buckets of 5 ms and one loop timer, because a timer each costs more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from bridge.rpc.call import Call, Handler
from bridge.rpc.deadline import FARTHEST
from bridge.rpc.errors import DeadlineExceeded

_TICKS = 200
"""Buckets a second. A call is ended at most one bucket after its deadline, never before it."""

_NEVER = 1 << 62
"""A tick."""

_ENDED_KEPT = 4096
"""Ticks of buckets that are gone are taken out of the heap when there are more than this, and more than others."""


class Deadlines:
    """The calls that wait for their deadline, by bucket. One timer is set, for the first bucket of all."""

    __slots__ = ("_armed_for", "_buckets", "_loop", "_ticks", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Call]] = {}
        self._ticks: list[int] = []
        """A heap of the buckets' ticks, and of some whose calls have all ended: taking those out would cost each call more."""
        self._armed_for = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call, deadline: float) -> int:
        """The bucket to discard the call from when it has ended."""
        tick = int(deadline * _TICKS) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._begin(tick)
        bucket.add(call)
        return tick

    def discard(self, call: Call, tick: int) -> None:
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(call)
            if not bucket:
                del self._buckets[tick]

    def _begin(self, tick: int) -> set[Call]:
        bucket = self._buckets[tick] = set()
        heappush(self._ticks, tick)
        if tick < self._armed_for:
            self._arm(tick)
        elif len(self._ticks) > _ENDED_KEPT and len(self._ticks) > 2 * len(self._buckets):
            self._ticks = sorted(self._buckets)
        return bucket

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = tick
        # The loop's clock is the monotonic one in steps of 1 ms: a step later is never too early.
        self._timer = self._loop.call_at(tick / _TICKS + 0.001, self._ring)

    def _ring(self) -> None:
        calls = self._buckets.pop(self._armed_for, ())
        self._armed_for, self._timer = _NEVER, None
        while self._ticks and self._ticks[0] not in self._buckets:
            heappop(self._ticks)
        if self._ticks:
            self._arm(self._ticks[0])
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
        if at - now > FARTHEST:
            return await inner(call)
        bucket = deadlines.add(call, at)
        try:
            await inner(call)
        finally:
            deadlines.discard(call, bucket)

    return bounded
