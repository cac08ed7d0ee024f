"""Asks AWS at intervals whether the bridge may call each function, and tells the health service (health.functions)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from bridge.rpc.errors import RpcError
from bridge.services.health import HealthService

_logger = logging.getLogger(__name__)

PROBE_INTERVAL = 30.0
"""Seconds between two looks at every function, and that one function may take to answer."""


class ProbedCarrier(Protocol):
    """A carrier, as the probe uses it."""

    async def dry_run(self) -> None:
        """Ask whether the function may be called, without a call. Raises RpcError."""


class ProbedFunction(Protocol):
    """A function to which a services entry leads."""

    @property
    def key(self) -> str:
        """The entry's key."""

    @property
    def carrier(self) -> ProbedCarrier: ...


class FunctionProbe:
    """Probes the functions of one configuration at a time."""

    def __init__(self, health: HealthService) -> None:
        """Belongs to the running loop."""
        self._health = health
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def watch(self, functions: Sequence[ProbedFunction], *, interval: float = PROBE_INTERVAL) -> None:
        """Probe these functions from now on, and no others. `interval`: seconds, see PROBE_INTERVAL."""
        self.stop()
        self._task = self._loop.create_task(self._probe(functions, interval))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _probe(self, functions: Sequence[ProbedFunction], interval: float) -> None:
        """Ask again and again. A service is SERVING only while AWS would let us call all its functions."""
        while True:
            is_serving: dict[str, bool] = {}
            for function in functions:
                try:
                    async with asyncio.timeout(interval):
                        await function.carrier.dry_run()
                except (RpcError, TimeoutError) as error:
                    _logger.warning("%s is not serving: %s", function.key, error)
                    is_serving[function.key] = False
                else:
                    is_serving.setdefault(function.key, True)
            for key, answer in is_serving.items():
                self._health.set_serving(key, answer)
            await asyncio.sleep(interval)
