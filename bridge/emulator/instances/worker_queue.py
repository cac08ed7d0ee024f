"""The invocations that wait for a worker of one instance, in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class WorkerQueue:
    """One is woken for each worker that asks; all are woken when the instance ends."""

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def wait(self, is_over: Callable[[], bool]) -> None:
        """Return when `is_over` says so. It is asked at once and after each waking."""
        add = self._waiters.append
        while not is_over():
            waiter = asyncio.get_running_loop().create_future()
            add(waiter)
            await waiter
            add = self._waiters.appendleft  # another one was faster, so this one keeps its place

    def wake_one(self) -> None:
        """Wake the one that has waited longest, if any waits."""
        if self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def wake_all(self) -> None:
        while self._waiters:
            self.wake_one()
