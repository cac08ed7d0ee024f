"""One time limit of an instance: a new one replaces the former."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TimeLimit:
    """Acts once when the time is over, unless it is stopped or replaced before."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` after so many seconds, instead of what was set before."""
        self.stop()
        self._timer = self._loop.call_later(seconds, act)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
