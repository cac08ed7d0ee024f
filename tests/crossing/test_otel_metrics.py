"""The metrics that an OpenTelemetry collector gets from a bridge that serves."""

from __future__ import annotations

import grpc
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric, NumberDataPoint
from prometheus_client.parser import text_string_to_metric_families

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from tests.support.bridge_process import EXAMPLES, running_bridge
from tests.support.collector import collecting

pytestmark = pytest.mark.slow

CALLS = 5


def handled(metrics: dict[str, Metric]) -> dict[tuple[str, str], int]:
    """By method and code."""
    return {
        (attributes["grpc_method"], attributes["grpc_code"]): point.as_int
        for point in metrics["grpc_server_handled"].sum.data_points
        if (attributes := attributes_of(point))
    }


def attributes_of(point: NumberDataPoint) -> dict[str, str]:
    return {each.key: each.value.string_value for each in point.attributes}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_collector_gets_what_metrics_shows(tmp_path_factory: pytest.TempPathFactory, workers: int) -> None:
    """Each process sends its own figures. Together they are those of /metrics."""
    folder = tmp_path_factory.mktemp("otel")
    with (
        collecting() as (collector, environ),
        running_bridge(folder, {**EXAMPLES, "workers": workers}, environ=environ) as bridge,
    ):
        for _ in range(CALLS):  # a connection each, so that both workers may have some
            with grpc.insecure_channel(bridge.address) as channel:
                echo_pb2_grpc.EchoStub(channel).Unary(echo_pb2.EchoRequest(text="a"), timeout=10)
        found = collector.wait_for_metrics(
            lambda each: (
                len(each) == workers and CALLS == sum(handled(metrics).get(("Unary", "OK"), 0) for metrics in each)
            )
        )
        scraped = {each.name for each in text_string_to_metric_families(bridge.get("/metrics"))}

    one = found[0]
    handling = [metrics["grpc_server_handling_seconds"].histogram for metrics in found]
    assert set(one) == scraped - {"bridge_build_info"}
    points = [point for histogram in handling for point in histogram.data_points]  # one worker may have none
    assert CALLS == sum(point.count for point in points)
    assert all(sum(point.bucket_counts) == point.count for point in points)
    assert 0 < points[0].start_time_unix_nano < points[0].time_unix_nano
    assert AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE == handling[0].aggregation_temporality
    assert one["grpc_server_handled"].sum.is_monotonic
    assert ("s", "By") == (one["bridge_queue_seconds"].unit, one["bridge_buffered_bytes"].unit)
    assert one["bridge_connections"].HasField("gauge")


def test_calls_of_the_last_moment_are_sent_at_the_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With an interval of a minute nothing else would come."""
    folder = tmp_path_factory.mktemp("otel")
    with collecting() as (collector, environ):
        with (
            running_bridge(folder, EXAMPLES, environ={**environ, "OTEL_METRIC_EXPORT_INTERVAL": "60000"}) as bridge,
            grpc.insecure_channel(bridge.address) as channel,
        ):
            echo_pb2_grpc.EchoStub(channel).Unary(echo_pb2.EchoRequest(text="a"), timeout=10)
        [metrics] = collector.wait_for_metrics(lambda each: len(each) == 1)

    assert 1 == handled(metrics)["Unary", "OK"]
