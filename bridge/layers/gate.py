"""Gate: wakes the waiting calls of one function when their turn has come. It is the clock and the timer of a Line.

`bridge/queueing/line.py` says who is next. `bridge/layers/admit.py` lets calls wait here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable

from bridge.queueing.learned import LearnedLimits
from bridge.queueing.line import Line, Waiter
from bridge.rpc.call import Call


class Gate:
    """The queue in front of one function, shared by all entries and legs that lead to it. Belongs to the running loop.

    It is kept over a reload, and with it what was learned.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        learns: bool = True,
        new_limits: Callable[[], LearnedLimits] = LearnedLimits,
    ) -> None:
        """`clock` reads the monotonic time. `learns`: whether throttles tell something about the target, in
        `new_limits`.
        """
        self.line: Line[Turn] = Line(new_limits)
        self.learns = learns
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def read_limit(self) -> int | None:
        """Return how many calls at a time the function takes. None: nothing is known."""
        self.line.forget_old(now=self._clock())
        return self.line.limits.concurrency

    def go_on(self) -> None:
        """Send the waiting calls whose turn has come."""
        line, now = self.line, self._clock()
        while (turn := line.next(now=now)) is not None:
            # The task of a client that has left may not have run yet. It gives the place back.
            if not turn.has_come.done():
                turn.has_come.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seconds = line.seconds_until_next(now=now)
        if seconds != math.inf:
            self._timer = self._loop.call_later(seconds, self.go_on)


class Turn(Waiter):
    """A call that waits in a gate."""

    __slots__ = ("has_come", "is_evicted")

    call: Call

    def __init__(self, call: Call, tenant: Hashable) -> None:
        super().__init__(call, tenant=tenant, arrived=call.started)
        self.is_evicted = False
        """Whether it left the queue for the call of another connection."""
        self.has_come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the call may be sent, or must not wait any longer."""
