"""deadline: aborts a call at its deadline. Calls share buckets of 5 ms and one loop timer, because a timer for each
costs more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from bridge.rpc.call import Call, Handler
from bridge.rpc.deadline import NO_TIMER_BEYOND
from bridge.rpc.errors import DeadlineExceeded

_TICKS = 200
"""Buckets a second. A call is ended at most one bucket after its deadline, never before it."""

_NEVER = 1 << 62
"""A tick."""

_KEPT = 1024
"""Number of buckets above which empty ones are removed. Removing each as soon as its last call ends would slow every
call.
"""


class Deadlines:
    """Holds the calls that have a deadline, by bucket. Only one timer is set, for the earliest bucket."""

    __slots__ = ("_armed_for", "_buckets", "_loop", "_most", "_ticks", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, set[Call]] = {}
        self._most = _KEPT
        """Number of buckets at which the empty ones are removed next."""
        self._ticks: list[int] = []
        """A heap of the buckets' ticks."""
        self._armed_for = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def bucket(self, deadline: float) -> set[Call]:
        """Return the bucket for a call with this deadline. The caller adds the call, and removes it at its end."""
        tick = int(deadline * _TICKS) + 1
        # An empty bucket is started again, because the timer may have been set past it.
        return self._buckets.get(tick) or self._begin(tick)

    def _begin(self, tick: int) -> set[Call]:
        """Start the bucket of this tick, which does not exist or is empty. From now on the timer fires for it."""
        bucket = self._buckets.get(tick)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._drop_empty()
            bucket = self._buckets[tick] = set()
            heappush(self._ticks, tick)
        if tick < self._armed_for:
            self._arm(tick)
        return bucket

    def _drop_empty(self) -> None:
        self._buckets = {tick: bucket for tick, bucket in self._buckets.items() if bucket}
        self._ticks = sorted(self._buckets)
        self._most = max(_KEPT, 2 * len(self._ticks))

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = tick
        # The loop's clock runs in steps of 1 ms. One step later is never too early.
        self._timer = self._loop.call_at(tick / _TICKS + 0.001, self._ring)

    def _ring(self) -> None:
        due = self._armed_for
        self._armed_for, self._timer = _NEVER, None
        ticks, buckets = self._ticks, self._buckets
        late = buckets.get(due, ())
        while ticks and (ticks[0] <= due or not buckets[ticks[0]]):
            del buckets[heappop(ticks)]
        if ticks:
            self._arm(ticks[0])
        for call in late:
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
        if at - now > NO_TIMER_BEYOND:
            return await inner(call)
        bucket = deadlines.bucket(at)
        bucket.add(call)
        try:
            await inner(call)
        finally:
            bucket.discard(call)

    return bounded
