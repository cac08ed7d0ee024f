"""Measures the memory of a function's process while it is busy, and reports when it holds more than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bridge.emulator.instances.process import FunctionProcess

MEMORY_CHECK_SECONDS = 0.1
"""Seconds between two looks at the memory of a busy instance."""


class MemoryWatch:
    """`on_excess` is called once, with the bytes in use, when they exceed `limit`. After each look the watch goes on
    only if `is_busy` says so.
    """

    def __init__(self, limit: int, *, is_busy: Callable[[], bool], on_excess: Callable[[int], None]) -> None:
        self.peak = 0
        """The most bytes that any look has seen."""
        self._limit = limit
        self._is_busy = is_busy
        self._on_excess = on_excess
        self._loop = asyncio.get_running_loop()
        self._process: FunctionProcess | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, process: FunctionProcess) -> None:
        """Begin to watch the process."""
        self._process = process
        self.watch()

    def watch(self) -> None:
        """Look again soon, unless that has been arranged."""
        if self._timer is None:
            self._timer = self._loop.call_later(MEMORY_CHECK_SECONDS, self._check)

    def look(self) -> int:
        """Return the bytes in use now. 0 without a process."""
        used = 0 if self._process is None else self._process.memory()
        self.peak = max(self.peak, used)
        return used

    def stop(self) -> None:
        """End the watch for good."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        used = self.look()
        if used > self._limit:
            self._on_excess(used)
        elif self._is_busy():
            self.watch()
