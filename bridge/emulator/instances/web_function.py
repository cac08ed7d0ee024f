"""One Web Function: its environments, and which of them gets a request.

Each environment serves `instance_concurrency` requests at once. There are `concurrency` environments at most. A request
waits while an environment starts. With all of them full it is throttled at once, as on AWS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances.busy_times import BusyTimes
from bridge.emulator.instances.shared_state import SharedEmulatorState
from bridge.emulator.instances.web_instance import WebInstance

_CLOSE_TIMEOUT = 2.0
"""Seconds for the killed to be gone."""

_logger = logging.getLogger(__name__)


class NoEnvironment(Exception):
    """All environments that the function may have are full."""


class WebFunction:
    """One Web Function: its environments, and the requests that they serve."""

    def __init__(self, config: FunctionConfig, shared: SharedEmulatorState, log: Callable[[str], None]) -> None:
        self.config = config
        self._shared = shared
        self._log = log
        self._instances: list[WebInstance] = []
        """All that have something left of them. The one used last is at the end."""
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._running = 0
        self.busy = BusyTimes()

    @property
    def running(self) -> int:
        """Requests in flight."""
        return self._running

    @property
    def most_running(self) -> int:
        """How many requests may run at a time."""
        return self.config.concurrency * self.config.instance_concurrency

    @property
    def instances(self) -> int:
        """Processes that run for it."""
        return len(self._instances)

    def note(self, line: str) -> None:
        """Write a line of our own where the function's lines go."""
        self._log(line)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[WebInstance]:
        """Hold a place in an environment that takes requests. Raises NoEnvironment, NotServing."""
        instance = self._claim()
        instance.take()
        self._running += 1
        self.busy.begin()
        self._is_idle.clear()
        try:
            await instance.ready()
            yield instance
        finally:
            instance.release()
            self._running -= 1
            self.busy.end()
            if not self._running:
                self._is_idle.set()

    def _claim(self) -> WebInstance:
        usable = [each for each in self._instances if each.is_usable]
        most = self.config.instance_concurrency
        chosen = next((each for each in reversed(usable) if each.in_use < most), None)
        if chosen is None:
            if len(usable) >= self.config.concurrency:
                raise NoEnvironment
            return self._add()
        self._instances.remove(chosen)
        self._instances.append(chosen)
        return chosen

    def _add(self) -> WebInstance:
        instance = WebInstance(self.config, self._shared, log=self._log, ended=self._forget)
        self._instances.append(instance)
        return instance

    def _forget(self, instance: WebInstance) -> None:
        self._instances.remove(instance)

    def renew(self, config: FunctionConfig) -> None:
        """Let the next requests run in fresh processes. Those in flight end where they are."""
        self.config = config
        for instance in list(self._instances):
            instance.retire()

    async def drain(self) -> None:
        """Let what is in flight end, then close."""
        await self._is_idle.wait()
        await self.close()

    async def close(self) -> None:
        """Kill every process. What is in flight fails."""
        instances = list(self._instances)
        for instance in instances:
            instance.kill()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*(instance.gone() for instance in instances))
        except TimeoutError:
            _logger.warning("%s: a killed process does not end", self.config.name)
