"""OpenTelemetry for calls in full duplex: client, bridge and function are one trace, as over Invoke."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.bridge_process import RunningBridge, running_bridge
from tests.support.byte_methods import stream_stream, unary_unary
from tests.support.collector import Collector, Received, collecting
from tests.support.duplex_chat import CHAT, configured, metric

pytestmark = pytest.mark.slow

TOLD = "/test.Test/Told"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, RunningBridge]]:
    folder: Path = tmp_path_factory.mktemp("traces")
    with collecting() as (collector, environ), running_bridge(folder, configured(), environ=environ) as bridge:
        yield collector, bridge


def _context() -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """A trace's id, a span's, and the metadata of a client that runs in it."""
    trace_id, span_id = os.urandom(16).hex(), os.urandom(8).hex()
    return trace_id, span_id, (("traceparent", f"00-{trace_id}-{span_id}-01"), ("tracestate", "vendor=1"))


def _spans(collector: Collector, trace_id: str) -> dict[str, Received]:
    """The call's span and its one attempt's, by kind."""
    found = {span.kind: span for span in collector.wait_for(lambda span: span.trace_id == trace_id, 2)}
    assert {"SERVER", "CLIENT"} == set(found)
    return found


def test_client_bridge_and_function_are_one_trace(served: tuple[Collector, RunningBridge]) -> None:
    collector, bridge = served
    trace_id, span_id, metadata = _context()
    with grpc.insecure_channel(bridge.address) as channel:
        answer, call = unary_unary(channel, TOLD).with_call(b"traceparent", metadata=metadata, timeout=30)
        request_id = dict(call.trailing_metadata())["x-amzn-requestid"]
    server, client = (_spans(collector, trace_id)[kind] for kind in ("SERVER", "CLIENT"))

    assert "test.Test/Told" == server.name
    assert (span_id, server.span_id) == (server.parent_id, client.parent_id)
    assert f"00-{trace_id}-{client.span_id}-01" == answer.decode()
    assert (0, 0) == tuple(span.attributes["rpc.grpc.status_code"] for span in (server, client))
    assert ("chat", "chat") == (client.name, client.attributes["faas.invoked_name"])
    assert {request_id} == {span.attributes["aws.request_id"] for span in (server, client)}
    (entry,) = [entry for entry in bridge.wait_for_log(TOLD) if entry["trace_id"] == trace_id]
    assert request_id == entry["request_id"]


@pytest.mark.parametrize(
    ("end", "code"),
    [("finished", grpc.StatusCode.OK), ("deadline", grpc.StatusCode.DEADLINE_EXCEEDED)],
)
def test_a_stream_has_one_span_until_its_end(
    served: tuple[Collector, RunningBridge], end: str, code: grpc.StatusCode
) -> None:
    collector, bridge = served
    trace_id, _, metadata = _context()

    def asks() -> Iterator[bytes]:
        yield b"1"
        yield b"2"
        if end == "deadline":
            is_over.wait(30)

    is_over = threading.Event()
    with grpc.insecure_channel(bridge.address) as channel:
        call = stream_stream(channel, CHAT)(asks(), metadata=metadata, timeout=3 if end == "deadline" else 30)
        assert [b"1", b"2"] == [next(call).partition(b" ")[2] for _ in range(2)]
        assert code is call.code()
        is_over.set()
    codes = [span.attributes["rpc.grpc.status_code"] for span in _spans(collector, trace_id).values()]

    # At its deadline the client also resets its stream, and that may arrive before the bridge's own timer rings.
    assert codes in ([code.value[0]] * 2, [1, 1] if end == "deadline" else [0, 0])


def test_a_client_that_cancels_ends_both_spans(served: tuple[Collector, RunningBridge]) -> None:
    collector, bridge = served
    trace_id, _, metadata = _context()
    with grpc.insecure_channel(bridge.address) as channel:
        call = unary_unary(channel, "/test.Test/Sleep").future(b"30", metadata=metadata)
        bridge.wait_until(lambda: metric(bridge, "bridge_instance_calls") == 1)
        bridge.wait_until(lambda: metric(bridge, "bridge_attached_instances") >= 1)
        call.cancel()
    spans = _spans(collector, trace_id)

    assert 1 == spans["SERVER"].attributes["rpc.grpc.status_code"]
