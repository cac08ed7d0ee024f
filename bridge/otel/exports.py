"""All that one process exports: its spans and its metrics, under one name and with one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from bridge.otel.metrics import MetricsExport, Reading, start_metrics
from bridge.otel.traces import start_tracing


class Exports:
    """The exports of one process, as far as the OTEL_ variables ask for them. Belongs to the running loop."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Begin to take spans."""
        self._environ = environ
        self._instance = str(uuid4())
        self.tracing = start_tracing(environ, instance=self._instance)
        """None: traces are off."""
        self._metrics: MetricsExport[Any] | None = None

    def start_metrics(self, reading: Callable[[str], Reading[Any]]) -> None:
        """Begin to send metrics. `reading` gets the process's name (service.instance.id), and is called only if metrics
        are on.
        """
        self._metrics = start_metrics(self._environ, lambda: reading(self._instance))

    async def close(self, *, seconds: float) -> None:
        """Send what is left, as far as that is possible in so long. Fine twice."""
        exports = [each for each in (self.tracing, self._metrics) if each is not None]
        await asyncio.gather(*[each.close(seconds=seconds) for each in exports])
