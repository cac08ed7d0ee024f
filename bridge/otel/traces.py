"""The spans of one process: sent in batches by a thread of the SDK, with an end that waits no longer than it may.

Knows nothing of calls: `layers/trace.py` makes the spans.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint, version

from bridge.otel.environment import SERVICE, TRACES, ends_within, resource

_logger = logging.getLogger(__name__)


def start_tracing(environ: Mapping[str, str], *, instance: str) -> Tracing | None:
    """Return what takes this process's spans, or None if traces are off or cannot be had. `instance`: the process's
    name among others.
    """
    exporters = TRACES.exporters(environ)
    if not exporters:
        return None
    try:
        return Tracing(exporters, instance=instance)
    except (ImportError, ValueError) as error:
        _logger.warning("the OTEL_ variables cannot be used, there are no traces: %s", error)
        return None


class Tracing:
    """The spans of one process. `close` comes last."""

    def __init__(self, exporters: list[EntryPoint], *, instance: str) -> None:
        """Set tracing up. Raises ImportError and ValueError for what the OTEL_ variables name and nobody has."""
        from opentelemetry import propagate
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # Not at exit: the SDK would wait for a collector as long as it likes.
        self._provider = TracerProvider(resource=resource(instance), shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
        self.tracer = self._provider.get_tracer(SERVICE, version(SERVICE))
        self.propagator = propagate.get_global_textmap()
        self._is_closed = False

    async def close(self, *, seconds: float) -> None:
        """Send what is left, as far as that is possible in so long. Fine twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if not await ends_within(seconds, self._provider.shutdown):
            _logger.warning("the last spans could not be sent within %g s", seconds)
