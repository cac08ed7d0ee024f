"""An event loop whose clock the tests move: waiting takes no time.

A turn of the loop takes a microsecond of its clock, however long it really takes. When all tasks wait, the clock
jumps to the next timer. So after `await asyncio.sleep(60)` exactly a minute has passed on `loop.time()`, and timers
run in their order on any machine. The loop is for tests without threads and other processes: it cannot see that one
of them will soon answer, and would jump. Sockets of the same loop are fine, because their data is there as soon as it
is sent.
"""

import asyncio
import math
import selectors
import time
from collections.abc import Callable

TURN = 2**-20
"""Seconds that a turn takes. A float adds them up without rounding."""


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop with a simulated clock. It starts at the real time, with which a connection compares it."""

    def __init__(self) -> None:
        self._now = round(time.monotonic() / TURN) * TURN
        super().__init__(_NeverWaiting(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        # A step that rounding makes nothing would be tried for ever.
        self._now = max(self._now + seconds, math.nextafter(self._now, math.inf))


class _NeverWaiting(selectors.DefaultSelector):
    """Does not wait for a timer. It tells the clock how long it would have waited."""

    def __init__(self, pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # no timer is set: only a file descriptor or a signal can wake the loop
            return super().select(None)
        ready = super().select(0)
        self._pass_time(TURN if ready else max(timeout, TURN))
        return ready
