from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from bridge.admin.metrics import render
from bridge.admin.snapshot import Snapshot, take_snapshot
from bridge.rpc.figures import BridgeFigures, MethodFigures
from bridge.rpc.recent import CallRecord
from bridge.rpc.status import StatusCode
from tests.support.figures import FULL_SNAPSHOT, CountedCall

METHOD = {
    "grpc_type": "unary",
    "grpc_service": "helloworld.Greeter",
    "grpc_method": "SayHello",
}
TARGET = {"target": "function:greeter"}


def scraped(snapshot: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = render(snapshot, version="1.2.3")[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


SCRAPED = scraped(FULL_SNAPSHOT)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("grpc_server_started_total", METHOD, 3),
        ("grpc_server_handled_total", METHOD | {"grpc_code": "OK"}, 1),
        ("grpc_server_handled_total", METHOD | {"grpc_code": "NotFound"}, 1),
        ("grpc_server_msg_received_total", METHOD, 2),
        ("grpc_server_msg_sent_total", METHOD, 4),
        ("grpc_server_handling_seconds_count", METHOD, 2),
        ("grpc_server_handling_seconds_sum", METHOD, 2.03),
        ("bridge_upstream_seconds_count", METHOD, 1),
        ("bridge_request_bytes_sum", METHOD, 200),
        ("bridge_response_bytes_sum", METHOD, 4000),
        ("bridge_in_flight", TARGET, 1),
        ("bridge_retries_total", TARGET, 4),
        ("bridge_cold_starts_total", TARGET, 5),
        ("bridge_throttles_total", TARGET | {"reason": "CallerRateLimitExceeded"}, 6),
        ("bridge_concurrency_limit", TARGET, 21),
        ("bridge_queue_length", TARGET, 22),
        ("bridge_queue_seconds_count", TARGET, 1),
        ("bridge_queue_seconds_sum", TARGET, 0.02),
        ("bridge_queue_refused_total", TARGET | {"reason": "full"}, 23),
        ("bridge_connections", {}, 7),
        ("bridge_connections_accepted_total", {}, 8),
        ("bridge_duplex_strangers_total", {}, 24),
        ("bridge_streams", {}, 9),
        ("bridge_buffered_bytes", {}, 10),
        ("bridge_shortened_trailers_total", {}, 11),
        ("bridge_shortened_headers_total", {}, 15),
        ("bridge_protocol_errors_total", {"kind": "rapid_reset"}, 12),
        ("bridge_refused_total", {"reason": "NoRoute"}, 13),
        ("bridge_connections_refused_total", {"reason": "total"}, 16),
        ("bridge_credentials_age_seconds", {}, 14),
        ("bridge_build_info", {"version": "1.2.3"}, 1),
        ("process_cpu_seconds_total", {}, 15),
        ("process_start_time_seconds", {}, 1.6e9),
        ("process_resident_memory_bytes", {}, 17),
        ("process_virtual_memory_bytes", {}, 18),
        ("process_open_fds", {}, 19),
        ("process_max_fds", {}, 20),
    ],
)
def test_each_figure_has_its_sample(name: str, labels: dict[str, str], value: float) -> None:
    """Every number appears under its name, with its labels."""
    assert value == pytest.approx(SCRAPED[name, frozenset(labels.items())])


def test_buckets_are_cumulative() -> None:
    """Each bucket counts all that lie below its bound; the last one everything."""
    counts = [
        SCRAPED["grpc_server_handling_seconds_bucket", frozenset((METHOD | {"le": bound}).items())]
        for bound in ("0.025", "0.05", "1.0", "2.5", "+Inf")
    ]

    assert [0, 1, 1, 2, 2] == counts


def test_codes_that_did_not_occur_are_left_out_but_for_ok() -> None:
    """A method that was never called has its OK at 0 and no other codes."""
    snapshot = take_snapshot(BridgeFigures(), methods=[MethodFigures("a.B", "C")], targets=[])
    codes = {
        dict(labels)["grpc_code"]: value
        for (name, labels), value in scraped(snapshot).items()
        if name == "grpc_server_handled_total"
    }

    assert {"OK": 0.0} == codes


def test_what_is_not_known_is_absent() -> None:
    """No credentials: no age, rather than an age of 0."""
    assert ("bridge_credentials_age_seconds", frozenset()) not in scraped(Snapshot())


def test_openmetrics_on_request() -> None:
    """A scraper that accepts OpenMetrics gets it, and it parses."""
    body, content_type = render(FULL_SNAPSHOT, version="1.2.3", accept="application/openmetrics-text; version=1.0.0")
    parse: Callable[[str], Iterable[Metric]] = parse_openmetrics
    names = {family.name for family in parse(body.decode())}

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert "grpc_server_handled" in names


def test_labels_are_escaped() -> None:
    """A name with quotes and line breaks stays inside its label."""
    odd = 'a"\n\\b'
    snapshot = Snapshot(refused={odd: 1})

    assert 1 == scraped(snapshot)["bridge_refused_total", frozenset({("reason", odd)})]


def test_the_global_registry_is_left_alone() -> None:
    """Other users of prometheus_client in the process see nothing of ours."""
    assert [] == [family.name for family in REGISTRY.collect() if family.name.startswith(("bridge_", "grpc_"))]


def test_openmetrics_names_traces_of_slow_and_failed_calls() -> None:
    """In the bucket and at the code of the call; of two calls the newer one. The older format has no exemplars."""
    method = MethodFigures("a.B", "C", "unary")
    method.finished(CountedCall(), StatusCode.OK, 0.07)
    method.finished(CountedCall(), StatusCode.UNAVAILABLE, 2.0)
    slow = [
        CallRecord(1.0, "/a.B/C", "OK", 0.07, trace_id="older"),
        CallRecord(2.0, "/a.B/C", "OK", 0.08, trace_id="t1"),
    ]
    failed = [
        CallRecord(3.0, "/a.B/C", "UNAVAILABLE", 2.0, trace_id="t2"),
        CallRecord(4.0, "/a.B/C", "UNAVAILABLE", 2.0),
    ]
    snapshot = take_snapshot(BridgeFigures(), methods=[method], targets=[], slow=slow, failures=failed)
    whole = msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot)
    whole.add(take_snapshot(BridgeFigures(), methods=[], targets=[]))
    text, _ = render(whole, version="1", accept="application/openmetrics-text; version=1.0.0")
    plain, _ = render(whole, version="1")
    exemplars = {
        (sample.labels.get("le"), sample.labels.get("grpc_code")): (sample.exemplar.labels, sample.exemplar.value)
        for family in parse_openmetrics(text.decode())  # type: ignore[no-untyped-call]  # it has no types
        for sample in family.samples
        if sample.exemplar
    }

    assert {
        ("0.1", None): ({"trace_id": "t1"}, 0.08),
        ("2.5", None): ({"trace_id": "t2"}, 2.0),
        (None, "Unavailable"): ({"trace_id": "t2"}, 1.0),
    } == exemplars
    assert b"trace_id" not in plain
