"""Simulated time: what happens when, in order. No real clock is read."""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Happening = Callable[[], object]


class Clock:
    """The time, and the source of chance. The same seed gives the same history."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        """Seconds since the beginning."""
        self.random = random.Random(seed)
        self._happenings: list[tuple[float, int, Happening]] = []
        self._numbers = count()

    def at(self, when: float, what: Happening) -> None:
        """Let it happen at this time. What shall happen at one time happens in the order of these calls."""
        heappush(self._happenings, (when, next(self._numbers), what))

    def after(self, seconds: float, what: Happening) -> None:
        self.at(self.now + seconds, what)

    def run(self, until: float) -> None:
        """Let everything happen up to this time."""
        happenings = self._happenings
        while happenings and happenings[0][0] <= until:
            self.now, _, what = heappop(happenings)
            what()
        self.now = until
