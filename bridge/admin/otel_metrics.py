"""A Snapshot in, the metrics that an OpenTelemetry exporter takes out: totals since the start of the process.

Names are those of /metrics, without the `_total` of counters: a collector that writes for Prometheus adds it again.
Exemplars are left out: OpenTelemetry's need the id of a span, and the figures keep that of the trace.

Imports the SDK: nobody imports this module while no metrics are exported.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from bridge.admin.snapshot import Snapshot
from bridge.admin.tables import Distribution, Distributions, Labels, Number, Numbers, tables_of
from bridge.otel.environment import SERVICE, resource
from bridge.otel.metrics import Reading

_UNITS = {"_seconds": "s", "_bytes": "By"}
_UNKNOWN: Any = None
"""For the smallest and largest value of a histogram, which OTLP may leave out and the SDK's types do not."""


def metrics_of(
    snapshot: Snapshot, *, resource: Resource, scope: InstrumentationScope, started: int, now: int
) -> MetricsData:
    """Return the snapshot's metrics. `started` and `now`: of the process and of the snapshot, Unix time in nanoseconds.

    It takes a third of a millisecond for each method: run it in a thread.
    """
    points = _Points(started, now)
    metrics = [points.metric(table) for table in tables_of(snapshot)]
    of_scope = ScopeMetrics(scope=scope, metrics=metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[of_scope], schema_url="")])


def reading_of(take: Callable[[], Snapshot], *, instance: str, wall_clock: Callable[[], float]) -> Reading[Snapshot]:
    """Return how the metrics of this process are read from now on. `instance` is its name (service.instance.id),
    `wall_clock` is Unix time in seconds.
    """
    started = _nanoseconds(wall_clock())
    who = resource(instance)
    scope = InstrumentationScope(SERVICE, version(SERVICE))

    def convert(snapshot: Snapshot) -> MetricsData:
        now = _nanoseconds(wall_clock())
        return metrics_of(snapshot, resource=who, scope=scope, started=started, now=now)

    return Reading(take, convert)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


class _Points:
    """Makes the data points of one snapshot."""

    def __init__(self, started: int, now: int) -> None:
        self._started = started
        self._now = now

    def metric(self, table: Numbers | Distributions) -> Metric:
        family = table.family
        unit = next((unit for end, unit in _UNITS.items() if family.name.endswith(end)), "")
        return Metric(name=family.name, description=family.text, unit=unit, data=self._data(table))

    def _data(self, table: Numbers | Distributions) -> Gauge | Histogram | Sum:
        if isinstance(table, Distributions):
            distributions = [self._distribution(table.labels, row) for row in table.rows]
            return Histogram(distributions, AggregationTemporality.CUMULATIVE)
        numbers = [self._number(table.labels, row) for row in table.rows]
        if table.family.is_gauge:
            return Gauge(numbers)
        return Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)

    def _number(self, names: Labels, row: Number) -> NumberDataPoint:
        return NumberDataPoint(
            attributes=dict(zip(names, row.labels, strict=True)),
            start_time_unix_nano=self._started,
            time_unix_nano=self._now,
            value=row.value,
        )

    def _distribution(self, names: Labels, row: Distribution) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=dict(zip(names, row.labels, strict=True)),
            start_time_unix_nano=self._started,
            time_unix_nano=self._now,
            count=row.value.count,
            sum=row.value.total,
            bucket_counts=row.value.counts,
            explicit_bounds=row.value.bounds,
            min=_UNKNOWN,
            max=_UNKNOWN,
        )
