"""OpenTelemetry: what a collector gets from a bridge that serves, and that it can harm nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.byte_methods import unary_unary
from tests.support.collector import Collector, Received, collecting

pytestmark = pytest.mark.slow

BRIEF = {**EXAMPLES["services"], "dev.Echo/Sleep": {"target": "local:echo", "timeout": "300ms"}}


@pytest.fixture(scope="module")
def collector_and_bridge(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Collector, RunningBridge]]:
    folder: Path = tmp_path_factory.mktemp("traces")
    config = {**EXAMPLES, "services": BRIEF}
    with (
        collecting() as (collector, environ),
        running_bridge(folder, config, environ=environ) as bridge,
    ):
        yield collector, bridge


@pytest.fixture
def collector(collector_and_bridge: tuple[Collector, RunningBridge]) -> Collector:
    return collector_and_bridge[0]


@pytest.fixture
def bridge(collector_and_bridge: tuple[Collector, RunningBridge]) -> RunningBridge:
    return collector_and_bridge[1]


@pytest.fixture
def stub(bridge: RunningBridge) -> Iterator[echo_pb2_grpc.EchoStub]:
    with grpc.insecure_channel(bridge.address) as channel:
        yield echo_pb2_grpc.EchoStub(channel)


def new_context() -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """A trace's id, a span's, and the metadata of a client that runs in it."""
    trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
    traceparent = ("traceparent", f"00-{trace_id}-{span_id}-01")
    return trace_id, span_id, (traceparent, ("tracestate", "vendor=1"))


def spans_of(collector: Collector, trace_id: str, count: int = 2) -> dict[str, Received]:
    """By kind."""
    found = collector.wait_for(lambda span: span.trace_id == trace_id, count)
    return {span.kind: span for span in found}


def test_client_bridge_and_function_are_one_trace(
    collector: Collector, bridge: RunningBridge, stub: echo_pb2_grpc.EchoStub
) -> None:
    """The client's span is the call's parent, the call's the attempt's, and the function gets the attempt's context."""
    trace_id, span_id, metadata = new_context()
    reply = stub.Unary(echo_pb2.EchoRequest(text="a"), metadata=metadata, timeout=10)
    received = {each.name: each.text for each in reply.metadata}
    spans = spans_of(collector, trace_id)
    server, client = spans["SERVER"], spans["CLIENT"]

    assert "dev.Echo/Unary" == server.name
    assert (span_id, server.span_id) == (server.parent_id, client.parent_id)
    assert f"00-{trace_id}-{client.span_id}-01" == received["traceparent"]
    assert "vendor=1" == received["tracestate"]
    assert "grpc" == server.attributes["rpc.system"]
    assert ("dev.Echo", "Unary") == (server.attributes["rpc.service"], server.attributes["rpc.method"])
    assert 0 == server.attributes["rpc.grpc.status_code"]
    assert "127.0.0.1" == server.attributes["server.address"]
    assert int(bridge.address.rpartition(":")[2]) == server.attributes["server.port"]
    assert "127.0.0.1" == server.attributes["network.peer.address"]
    assert ("echo", "echo") == (client.name, client.attributes["faas.invoked_name"])
    assert {reply.request_id} == {server.attributes["aws.request_id"], client.attributes["aws.request_id"]}
    assert "grpc-lambda-bridge" == server.resource["service.name"]
    assert trace_id in {entry["trace_id"] for entry in bridge.wait_for_log("/dev.Echo/Unary")}


def test_a_broken_context_fills_no_log(
    collector: Collector, bridge: RunningBridge, stub: echo_pb2_grpc.EchoStub
) -> None:
    """Strangers choose these values."""
    trace_id, span_id, _ = new_context()
    broken = (("tracestate", "?=!,"), ("baggage", ";;"))
    metadata = (("traceparent", f"00-{trace_id}-{span_id}-01"), *broken)
    stub.Unary(echo_pb2.EchoRequest(text="a"), metadata=metadata, timeout=10)
    stub.Unary(echo_pb2.EchoRequest(text="a"), metadata=(("traceparent", "00-0-0-00"), *broken))
    spans = spans_of(collector, trace_id)

    assert span_id == spans["SERVER"].parent_id
    assert [] == [line for line in bridge.lines if "opentelemetry" in line]


def test_a_client_without_context_gets_a_trace_that_the_log_names(
    collector: Collector, bridge: RunningBridge, stub: echo_pb2_grpc.EchoStub
) -> None:
    reply = stub.Big(echo_pb2.BigRequest(size=1), timeout=10)
    [entry] = bridge.wait_for_log("/dev.Echo/Big")
    spans = spans_of(collector, entry["trace_id"])

    assert b"\0" == reply.data
    assert "" == spans["SERVER"].parent_id


@pytest.mark.parametrize(("code", "is_error"), [(grpc.StatusCode.NOT_FOUND, False), (grpc.StatusCode.INTERNAL, True)])
def test_a_functions_status_is_the_spans(
    collector: Collector, stub: echo_pb2_grpc.EchoStub, code: grpc.StatusCode, is_error: bool
) -> None:
    trace_id, _, metadata = new_context()
    number = code.value[0]
    with pytest.raises(grpc.RpcError) as failure:
        stub.Fail(echo_pb2.FailRequest(code=number, message="so be it"), metadata=metadata)
    spans = spans_of(collector, trace_id)

    assert code is failure.value.code()
    assert [number] * 2 == [span.attributes["rpc.grpc.status_code"] for span in spans.values()]
    assert (is_error, True) == (spans["SERVER"].is_error, spans["CLIENT"].is_error)
    assert "so be it" == spans["CLIENT"].description


def test_a_deadline_ends_both_spans(collector: Collector, stub: echo_pb2_grpc.EchoStub) -> None:
    """Whoever is first to see that the time is over, function or bridge."""
    trace_id, _, metadata = new_context()
    with pytest.raises(grpc.RpcError):
        stub.Sleep(echo_pb2.SleepRequest(seconds=2), metadata=metadata)
    spans = spans_of(collector, trace_id)

    assert [4, 4] == [span.attributes["rpc.grpc.status_code"] for span in spans.values()]
    assert spans["SERVER"].is_error


def test_unknown_methods_share_one_name(collector: Collector, bridge: RunningBridge) -> None:
    trace_id, span_id, metadata = new_context()
    with grpc.insecure_channel(bridge.address) as channel, pytest.raises(grpc.RpcError):
        unary_unary(channel, "/made.Up/Name")(b"", metadata=metadata)
    span = spans_of(collector, trace_id, 1)["SERVER"]

    assert "unknown/unknown" == span.name
    assert (span_id, 12) == (span.parent_id, span.attributes["rpc.grpc.status_code"])


def test_what_is_left_is_sent_when_the_bridge_drains(tmp_path: Path) -> None:
    """A batch that would wait for a minute; each worker sends its own."""
    with collecting() as (collector, environ):
        patient = {**environ, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with running_bridge(tmp_path, {**EXAMPLES, "workers": 2}, environ=patient) as bridge:
            for _ in range(6):
                options = [("grpc.use_local_subchannel_pool", 1)]
                with grpc.insecure_channel(bridge.address, options) as channel:
                    echo = echo_pb2_grpc.EchoStub(channel)
                    echo.Unary(echo_pb2.EchoRequest(text="a"), timeout=10)
            before = collector.requests
            exit_code = bridge.stop(signal.SIGTERM)
        spans = collector.wait_for(lambda span: span.kind == "SERVER", 6)

    assert (0, 0) == (before, exit_code)
    assert 6 == len(spans)
    assert collector.requests == len({span.resource["service.instance.id"] for span in spans})


def call_many(bridge: RunningBridge, count: int) -> None:
    with grpc.insecure_channel(bridge.address) as channel:
        echo = echo_pb2_grpc.EchoStub(channel)
        for number in range(count):
            reply = echo.Unary(echo_pb2.EchoRequest(text=str(number)), timeout=5)
            assert str(number) == reply.text


def test_a_collector_that_fails_harms_no_call(tmp_path: Path) -> None:
    """It answers 500, with room for few spans: they are dropped, and that is in the log; calls go on, and the exit is
    clean.
    """
    with collecting() as (collector, environ):
        collector.status = 500
        few = {**environ, "OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
        with running_bridge(tmp_path, EXAMPLES, environ=few) as bridge:
            call_many(bridge, 30)
            bridge.wait_for_line("opentelemetry")
            exit_code = bridge.stop(signal.SIGTERM)

    assert 0 == exit_code
    assert collector.requests > 0
    assert {"OK"} == {entry["code"] for entry in bridge.access_log()}


def test_a_collector_that_never_answers_delays_the_end_by_seconds_only(tmp_path: Path) -> None:
    """It accepts and says nothing: the last spans and the last metrics get the same three seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": address}
        with running_bridge(tmp_path, EXAMPLES, environ=environ) as bridge:
            call_many(bridge, 3)
            began = time.monotonic()
            exit_code = bridge.stop(signal.SIGTERM)

    assert 0 == exit_code
    assert time.monotonic() - began > 2.5
    for what in ("spans", "metrics"):
        assert any(f"the last {what} could not be sent within 3 s" in line for line in bridge.lines)


def test_traces_that_cannot_be_had_cost_one_warning(tmp_path: Path) -> None:
    """However many processes the bridge is."""
    environ = {"OTEL_TRACES_EXPORTER": "smoke"}
    with running_bridge(tmp_path, {**EXAMPLES, "workers": 2}, environ=environ) as bridge:
        call_many(bridge, 1)
    warnings = [line for line in bridge.lines if "OTEL_" in line]

    assert 1 == len(warnings)
    assert "no exporter smoke is installed" in warnings[0]
