"""The metrics of one process: sent at an interval to what the OTEL_ variables name, by a thread of its own.

What is sent are the figures that /metrics shows. They are read on the loop, which takes a moment, and put into
OpenTelemetry's form and sent by the thread. While it is busy with one sending, the next ones are left out: the totals
that follow say the same. The SDK's own instruments are not used, because the figures exist already.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from bridge.otel.environment import METRICS, ends_within

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData

_logger = logging.getLogger(__name__)

_INTERVAL, _TIMEOUT = "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"

_DEFAULTS = {_INTERVAL: 60_000, _TIMEOUT: 30_000}
"""Milliseconds, as OpenTelemetry's specification has them."""

Taken = TypeVar("Taken")


class Reading(Generic[Taken]):
    """Where the figures come from."""

    def __init__(self, take: Callable[[], Taken], convert: Callable[[Taken], MetricsData]) -> None:
        """`take` is called on the loop, and `convert` in a thread."""
        self.take = take
        self.convert = convert


def start_metrics(environ: Mapping[str, str], reading: Callable[[], Reading[Taken]]) -> MetricsExport[Taken] | None:
    """Return what sends this process's metrics, or None if they are off or cannot be had. `reading` is called, and the
    SDK imported, only if they are on. Belongs to the running loop.
    """
    exporters = METRICS.exporters(environ)
    if not exporters:
        return None
    if environ.get(_TEMPORALITY, "cumulative").strip().lower() != "cumulative":
        _logger.warning(
            "%s=%s is not supported: metrics are sent as totals (a collector's cumulativetodelta processor makes"
            " differences of them)",
            _TEMPORALITY,
            environ[_TEMPORALITY],
        )
    try:
        loaded = [_load(each) for each in exporters]
        return MetricsExport(
            loaded, reading(), interval=_seconds(_INTERVAL, environ), timeout=_seconds(_TIMEOUT, environ)
        )
    except (ImportError, ValueError) as error:
        _logger.warning("the OTEL_ variables cannot be used, no metrics are sent: %s", error)
        return None


def _load(exporter: EntryPoint) -> MetricExporter:
    """Make an exporter. Raises ValueError for one that waits to be asked, as Prometheus' does."""
    made = exporter.load()()
    if not hasattr(made, "export"):
        raise ValueError(
            f"OTEL_METRICS_EXPORTER={exporter.name} sends nothing by itself; the admin address has /metrics"
        )
    loaded: MetricExporter = made
    return loaded


def _seconds(name: str, environ: Mapping[str, str]) -> float:
    text = environ.get(name, "").strip()
    try:
        milliseconds = float(text or _DEFAULTS[name])
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < float("inf"):
        raise ValueError(f"{name}={text} is not a number of milliseconds above 0")
    return milliseconds / 1000


class MetricsExport(Generic[Taken]):
    """Sends one process's metrics. `close` comes last."""

    def __init__(
        self, exporters: list[MetricExporter], reading: Reading[Taken], *, interval: float, timeout: float
    ) -> None:
        """Start sending, first after one `interval`. `interval` and `timeout` (of one sending) are in seconds."""
        self._exporters = exporters
        self._reading = reading
        self._timeout = timeout
        self._to_send: SimpleQueue[Taken | None] = SimpleQueue()
        """At most the figures of one interval and those of the end. None: no more will come."""
        self._is_sending = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="metrics", daemon=True)
        self._thread.start()
        self._timing: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._at_each(interval))

    async def _at_each(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            if not self._is_sending.is_set() and self._to_send.empty():
                self._to_send.put(self._reading.take())

    async def close(self, *, seconds: float) -> None:
        """Send the last figures, as far as that is possible in so long. Fine twice."""
        if self._timing is None:
            return
        self._timing.cancel()
        await asyncio.gather(self._timing, return_exceptions=True)
        self._timing = None
        self._to_send.put(self._reading.take())
        self._to_send.put(None)
        if not await ends_within(seconds, self._thread.join):
            _logger.warning("the last metrics could not be sent within %g s", seconds)

    def _send_all(self) -> None:
        while (figures := self._to_send.get()) is not None:
            self._is_sending.set()
            try:
                self._send(figures)
            finally:
                self._is_sending.clear()
        for exporter in self._exporters:
            exporter.shutdown(timeout_millis=self._timeout * 1000)

    def _send(self, figures: Taken) -> None:
        try:
            metrics = self._reading.convert(figures)
        except Exception:  # the thread's outermost frame: the next interval tries again
            _logger.exception("metrics could not be sent: a bug in the bridge")
            return
        for exporter in self._exporters:
            try:
                exporter.export(metrics, timeout_millis=self._timeout * 1000)
            except Exception as error:  # noqa: BLE001 - an exporter may be anybody's, and the next interval tries again
                _logger.warning("metrics could not be sent: %s", error)
