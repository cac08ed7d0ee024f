"""An OpenTelemetry collector that keeps what it is sent: OTLP over HTTP, as protobuf."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Received:
    """One span."""

    name: str
    kind: str
    """`SERVER` or `CLIENT`."""
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str | int]
    is_error: bool
    description: str
    resource: dict[str, str | int]


class Collector:
    """`status`: what it answers from now on."""

    def __init__(self) -> None:
        self.status = 200
        self.requests = 0
        self._spans: list[Received] = []
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._arrived = threading.Condition()

    def take(self, body: bytes) -> None:
        with self._arrived:
            self.requests += 1
            if self.status == 200:
                self._spans += _decode(body)
            self._arrived.notify_all()

    def take_metrics(self, body: bytes) -> None:
        with self._arrived:
            for of_process in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                instance = str(_values(of_process.resource.attributes)["service.instance.id"])
                self._metrics[instance] = {each.name: each for each in of_process.scope_metrics[0].metrics}
            self._arrived.notify_all()

    def wait_for_metrics(
        self, wanted: Callable[[list[dict[str, Metric]]], bool], *, seconds: float = 15
    ) -> list[dict[str, Metric]]:
        """The newest metrics of each process by name, once they are what is wanted."""
        until = time.monotonic() + seconds
        with self._arrived:
            while not wanted(found := [*self._metrics.values()]):
                if not self._arrived.wait(until - time.monotonic()):
                    raise AssertionError(f"these metrics are not wanted: {found}")
            return found

    def wait_for(self, wanted: Callable[[Received], bool], count: int = 1, *, seconds: float = 15) -> list[Received]:
        """The spans that are wanted, once there are so many."""
        until = time.monotonic() + seconds
        with self._arrived:
            while len(found := [span for span in self._spans if wanted(span)]) < count:
                if not self._arrived.wait(until - time.monotonic()):
                    raise AssertionError(f"{len(found)} of {count} spans came: {self._spans}")
            return found


def _decode(body: bytes) -> list[Received]:
    return [
        Received(
            name=span.name,
            kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes=_values(span.attributes),
            is_error=span.status.code == span.status.STATUS_CODE_ERROR,
            description=span.status.message,
            resource=_values(of_process.resource.attributes),
        )
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans
        for of_scope in of_process.scope_spans
        for span in of_scope.spans
    ]


def _values(attributes: Iterable[KeyValue]) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in attributes}


@contextmanager
def collecting() -> Iterator[tuple[Collector, dict[str, str]]]:
    """A collector, and the variables that send spans and metrics to it at once."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            takes = {"/v1/traces": collector.take, "/v1/metrics": collector.take_metrics}.get(self.path)
            if takes is not None:
                takes(body)
            self.send_response(collector.status if takes else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        yield (
            collector,
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": address,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                "OTEL_METRIC_EXPORT_INTERVAL": "100",
            },
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
