"""OpenTelemetry in one process: whether traces are asked for, where spans are sent, and an end that waits no longer
than it may.

The standard OTEL_ variables alone say all of it. Most of them the SDK reads itself; it is imported only if traces are
on. Knows nothing of calls: `layers/trace.py` makes the spans.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

_logger = logging.getLogger(__name__)

_NAME = "grpc-lambda-bridge"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def problem(environ: Mapping[str, str]) -> str | None:
    """Why there are no traces although they are asked for; None: there is no reason."""
    missing = [name for name in _exporter_names(environ) if _exporter(name) is None]
    if not missing:
        return None
    return (
        f"the OTEL_ variables ask for traces, but no exporter {' and no '.join(missing)} is installed: there are none"
        " (pip install 'grpc-lambda-bridge[otel]'; OTLP over gRPC needs opentelemetry-exporter-otlp-proto-grpc too)"
    )


def start(environ: Mapping[str, str]) -> Tracing | None:
    """Return what takes this process's spans, or None if traces are off or cannot be had (`problem` says why)."""
    names = _exporter_names(environ)
    exporters = [found for name in names if (found := _exporter(name)) is not None]
    if not exporters or len(exporters) < len(names):
        return None
    try:
        return Tracing(exporters)
    except (ImportError, ValueError) as error:
        _logger.warning("the OTEL_ variables cannot be used, there are no traces: %s", error)
        return None


class Tracing:
    """The spans of one process, sent in batches by a thread of the SDK's own. `close` comes last."""

    def __init__(self, exporters: list[EntryPoint]) -> None:
        """Set tracing up. Raises ImportError and ValueError for what the OTEL_ variables name and nobody has."""
        from opentelemetry import propagate
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # Not at exit: the SDK would wait for a collector as long as it likes.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter.load()()))
        self.tracer = self._provider.get_tracer(_NAME, version(_NAME))
        self.propagator = propagate.get_global_textmap()
        self._is_closed = False

    async def close(self, *, seconds: float) -> None:
        """Send what is left, as far as that is possible in so long. Fine twice."""
        if self._is_closed:
            return
        self._is_closed = True
        loop, sent = asyncio.get_running_loop(), asyncio.Event()
        # A daemon, because the SDK's shutdown cannot be bounded: a thread of an executor would be waited for at exit.
        threading.Thread(target=self._shut_down, args=(loop, sent), daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await sent.wait()
        except TimeoutError:
            _logger.warning("the last spans could not be sent within %g s", seconds)

    def _shut_down(self, loop: asyncio.AbstractEventLoop, sent: asyncio.Event) -> None:
        self._provider.shutdown()
        try:
            loop.call_soon_threadsafe(sent.set)
        except RuntimeError:  # too late: the loop is closed
            pass


def _exporter_names(environ: Mapping[str, str]) -> list[str]:
    """As entry points are named; empty: traces are off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    listed = environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    names = [name.strip() for name in listed if name.strip()]
    if not names and any(environ.get(name) for name in _ENDPOINTS):
        names = ["otlp"]
    if "none" in names:
        return []
    return [_otlp(environ) if name == "otlp" else name for name in names]


def _otlp(environ: Mapping[str, str]) -> str:
    named = (environ[name] for name in _PROTOCOLS if environ.get(name))
    # The specification's default; the SDK's own set-up, which is older, takes gRPC.
    protocol = next(named, "http/protobuf")
    return f"otlp_proto_{protocol.removesuffix('/protobuf')}"


def _exporter(name: str) -> EntryPoint | None:
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    return next(iter(found), None)


def _resource() -> Resource:
    """Who makes the spans: each process is an instance of its own. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go
    first.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    ours = {
        "service.name": _NAME,
        "service.version": version(_NAME),
        "service.instance.id": str(uuid4()),
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})
