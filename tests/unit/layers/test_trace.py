"""trace: a span for each call and each attempt, their names, parents and outcomes, and what the target is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bridge.aws.arn import FunctionName
from bridge.config.target import GrpcTargetSpec, HttpTargetSpec, LambdaTargetSpec, LocalTarget, TargetKind
from bridge.layers.rescue import rescue
from bridge.layers.retry import retry
from bridge.layers.trace import traced, traced_attempt
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.call import Call, Handler, Peer, Route
from bridge.rpc.errors import DeadlineExceeded, NotStarted, RpcError
from bridge.rpc.events import OK_TRAILERS, Trailers
from bridge.rpc.figures import BridgeFigures, MethodFigures, TargetFigures
from bridge.rpc.limits import Limits, RetryPolicy
from bridge.rpc.metadata import Metadata, value_of
from bridge.rpc.status import Status, StatusCode
from bridge.rpc.url import Origin, Url
from tests.support.fakes import RecordingCall
from tests.support.running import RunningCall

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
GREETER = LambdaTargetSpec(FunctionName("greeter", "live", region="eu-west-1"))


@dataclass
class Traces:
    """The layers under test, and what they made."""

    spans: InMemorySpanExporter
    provider: TracerProvider
    propagator: CompositePropagator

    def around_call(self, inner: Handler) -> Handler:
        rescued = rescue(inner, figures=BridgeFigures())
        tracer = self.provider.get_tracer("test")
        return traced(rescued, tracer=tracer, propagator=self.propagator)

    def around_attempt(self, inner: Handler, target: TargetKind = GREETER) -> Handler:
        tracer = self.provider.get_tracer("test")
        return traced_attempt(inner, target=target, tracer=tracer, propagator=self.propagator)

    def around_both(self, inner: Handler) -> Handler:
        return self.around_call(self.around_attempt(inner))

    def of_kind(self, kind: SpanKind) -> list[Any]:
        """The finished spans of this kind. A test fails where one lacks what it names, so their types say less."""
        return [span for span in self.spans.get_finished_spans() if span.kind is kind]

    def of_call(self) -> Any:
        [span] = self.of_kind(SpanKind.SERVER)
        return span


@pytest.fixture
def traces() -> Iterator[Traces]:
    with tracing() as made:
        yield made


@contextmanager
def tracing() -> Iterator[Traces]:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    w3c = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    yield Traces(spans, provider, w3c)
    provider.shutdown()


async def answer(call: Call) -> None:
    call.request_id = "aws-1"
    call.send(OK_TRAILERS)


def failing(*errors: RpcError) -> Handler:
    """Raises each error once, then answers."""
    left = list(errors)

    async def handler(call: Call) -> None:
        if left:
            raise left.pop(0)
        await answer(call)

    return handler


def ending(status: Status) -> Handler:
    async def handler(call: Call) -> None:
        call.send(Trailers(status))

    return handler


def traceparent_of(span: Any) -> str:
    context = span.context
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


# -- the call ----------------------------------------------------------------------------------------------------------


async def test_a_call_is_a_server_span_named_after_its_method(traces: Traces) -> None:
    call = RecordingCall("/shop.v1.Cart/Add", authority="shop.test:443", peer=Peer("10.0.0.9"))
    await traces.around_call(answer)(call)
    span = traces.of_call()

    assert "shop.v1.Cart/Add" == span.name
    assert {
        "rpc.system": "grpc",
        "rpc.service": "shop.v1.Cart",
        "rpc.method": "Add",
        "rpc.grpc.status_code": 0,
        "server.address": "shop.test",
        "server.port": 443,
        "network.peer.address": "10.0.0.9",
        "aws.request_id": "aws-1",
    } == dict(span.attributes)
    assert SpanStatus.UNSET is span.status.status_code


async def test_the_clients_context_is_the_parent(traces: Traces) -> None:
    await traces.around_call(answer)(RecordingCall(metadata=(("traceparent", TRACEPARENT),)))
    span = traces.of_call()

    assert traceparent_of(span).startswith(f"00-{TRACE}-")
    assert PARENT == f"{span.parent.span_id:016x}"
    assert span.parent.is_remote


@pytest.mark.parametrize("sent", [(), (("traceparent", "nonsense"), ("tracestate", "a=1"))])
async def test_a_call_without_context_begins_a_trace(traces: Traces, sent: Metadata) -> None:
    """The access log, which reads the metadata, names the same one; a state without a parent is none."""
    call = RecordingCall(metadata=sent)
    await traces.around_call(answer)(call)
    span = traces.of_call()

    assert span.parent is None
    assert (("traceparent", traceparent_of(span)),) == call.metadata


@given(
    metadata=st.lists(
        st.tuples(
            st.sampled_from(["traceparent", "tracestate", "baggage", "x"]),
            st.one_of(
                st.text(st.characters(max_codepoint=255)),
                st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True),
                st.from_regex(r"([a-z@*/-]{1,9}=[ -~]{0,9},? ?){1,40}", fullmatch=True),
            ),
        ),
        max_size=6,
    )
)
def test_no_context_that_a_client_sends_harms_its_call(metadata: list[tuple[str, str]]) -> None:
    """The target gets a valid one, once, and all the rest as it was."""
    own = ("traceparent", "tracestate")
    call = RecordingCall(metadata=tuple(metadata))
    with tracing() as traces:

        async def run() -> None:
            await traces.around_both(answer)(call)

        asyncio.run(run())

    assert Status(StatusCode.OK) == call.status
    assert 1 == len([value for name, value in call.metadata if name == "traceparent"])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", value_of(call.metadata, "traceparent") or "")
    assert [pair for pair in metadata if pair[0] not in own] == [pair for pair in call.metadata if pair[0] not in own]


async def test_unknown_methods_share_one_name(traces: Traces) -> None:
    """Clients choose paths; names must not grow with them."""
    call = RecordingCall("/made.Up/Name")
    call.route = Route("unknown", answer, MethodFigures("unknown", "unknown"), Limits())
    await traces.around_call(ending(Status(StatusCode.UNIMPLEMENTED, "no service")))(call)
    span = traces.of_call()

    assert "unknown/unknown" == span.name
    assert "Name" not in str(dict(span.attributes))


@pytest.mark.parametrize("code", list(StatusCode))
async def test_only_a_servers_failures_are_errors_of_the_call(traces: Traces, code: StatusCode) -> None:
    """NOT_FOUND may be the right answer; what fails for the caller is an error of the attempt."""
    await traces.around_both(ending(Status(code, "because")))(RecordingCall())
    span = traces.of_call()
    [attempt] = traces.of_kind(SpanKind.CLIENT)
    is_server_error = code.name in ("UNKNOWN DEADLINE_EXCEEDED UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS")

    assert code == span.attributes["rpc.grpc.status_code"]
    assert code == attempt.attributes["rpc.grpc.status_code"]
    assert (SpanStatus.ERROR if is_server_error else SpanStatus.UNSET) is span.status.status_code
    assert ("because" if is_server_error else None) == span.status.description
    assert (code is not StatusCode.OK) == (attempt.status.status_code is SpanStatus.ERROR)


async def test_a_message_that_was_no_utf_8_can_be_exported(traces: Traces) -> None:
    """A lone surrogate would lose the whole batch; a long message is cut."""
    status = Status(StatusCode.INTERNAL, "a\udcff" + "b" * 1000)
    await traces.around_call(ending(status))(RecordingCall())
    description = traces.of_call().status.description

    assert description.startswith("a\\udcffb")
    assert 600 > len(description.encode())


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("localhost:50051", {"server.address": "localhost", "server.port": 50051}),
        ("[::1]:50051", {"server.address": "::1", "server.port": 50051}),
        ("localhost", {"server.address": "localhost"}),
        ("a:b", {"server.address": "a:b"}),
        ("a:999999", {"server.address": "a:999999"}),
        ("x" * 999, {"server.address": "x" * 255}),
    ],
)
async def test_the_server_is_the_one_the_client_named(
    traces: Traces, authority: str, expected: dict[str, object]
) -> None:
    await traces.around_call(answer)(RecordingCall(authority=authority, peer=Peer("unix")))
    attributes = traces.of_call().attributes
    found = {name: value for name, value in attributes.items() if name.startswith("server.")}

    assert expected == found
    assert "unix" == attributes["network.transport"]
    assert "network.peer.address" not in attributes


async def test_a_stopping_process_ends_the_span(traces: Traces) -> None:
    async def cancelled(call: Call) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await traces.around_both(cancelled)(RecordingCall())

    assert StatusCode.CANCELLED == traces.of_call().attributes["rpc.grpc.status_code"]


# -- the attempts ------------------------------------------------------------------------------------------------------


async def test_the_target_gets_the_context_of_its_attempt(traces: Traces) -> None:
    """In the client's place; the rest of the metadata stays as it was, baggage too."""
    sent = (("traceparent", TRACEPARENT), ("a", "1"), ("tracestate", "v=1"), ("baggage", "k=v;p"))
    call = RecordingCall(metadata=sent)
    await traces.around_both(answer)(call)
    [attempt] = traces.of_kind(SpanKind.CLIENT)

    assert traces.of_call().context.span_id == attempt.parent.span_id
    assert traceparent_of(attempt).startswith(f"00-{TRACE}-")
    assert (
        ("a", "1"),
        ("baggage", "k=v;p"),
        ("traceparent", traceparent_of(attempt)),
        ("tracestate", "v=1"),
    ) == call.metadata


async def test_each_attempt_has_a_span(traces: Traces) -> None:
    seen: list[str | None] = []
    answers = failing(not_yet := NotStarted("greeter"))
    not_yet.request_id = "aws-0"

    async def target(call: Call) -> None:
        seen.append(value_of(call.metadata, "traceparent"))
        await answers(call)

    retried = retry(
        traces.around_attempt(target),
        policy=RetryPolicy(backoff=0),
        target=TargetFigures("greeter"),
        clock=lambda: 0.0,
    )
    await traces.around_call(retried)(RecordingCall(metadata=(("traceparent", TRACEPARENT),)))
    first, second = traces.of_kind(SpanKind.CLIENT)

    assert [traceparent_of(first), traceparent_of(second)] == seen
    assert "NotStarted" == first.attributes["error.type"]
    assert "aws-0" == first.attributes["aws.request_id"]
    assert (14, 0) == tuple(span.attributes["rpc.grpc.status_code"] for span in (first, second))
    assert "error.type" not in second.attributes
    assert 0 == traces.of_call().attributes["rpc.grpc.status_code"]


async def test_an_aborted_attempt_says_what_aborted_it(traces: Traces) -> None:
    """The handler sees a cancellation; the deadline is what the spans tell."""

    async def for_ever(call: Call) -> None:
        await asyncio.get_running_loop().create_future()

    call = RunningCall()
    task = call.run(traces.around_both(for_ever))
    await asyncio.sleep(0)
    call.abort(DeadlineExceeded("too late"))
    await task
    [attempt] = traces.of_kind(SpanKind.CLIENT)

    assert "DeadlineExceeded" == attempt.attributes["error.type"]
    assert "too late" == attempt.status.description == traces.of_call().status.description


async def test_an_unsampled_trace_is_passed_on_and_not_recorded(traces: Traces) -> None:
    call = RecordingCall(metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),))
    await traces.around_both(answer)(call)
    traceparent = value_of(call.metadata, "traceparent") or ""

    assert () == traces.spans.get_finished_spans()
    assert traceparent.startswith(f"00-{TRACE}-")
    assert traceparent.endswith("-00")


@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        (
            GREETER,
            "greeter:live",
            {
                "faas.invoked_name": "greeter",
                "faas.invoked_provider": "aws",
                "faas.invoked_region": "eu-west-1",
            },
        ),
        (
            LambdaTargetSpec(FunctionName("greeter")),
            "greeter",
            {"faas.invoked_name": "greeter", "faas.invoked_provider": "aws"},
        ),
        (LocalTarget("echo"), "echo", {"faas.invoked_name": "echo"}),
        (
            HttpTargetSpec(Url(Origin("https", "a.test", 443), "/secret")),
            "a.test",
            {"server.address": "a.test", "server.port": 443},
        ),
        (
            GrpcTargetSpec(TcpAddress("::1", 50051)),
            "[::1]:50051",
            {"server.address": "::1", "server.port": 50051},
        ),
        (
            GrpcTargetSpec(UnixAddress(Path("/run/a.sock"))),
            "unix:/run/a.sock",
            {"server.address": "unix:/run/a.sock", "network.transport": "unix"},
        ),
    ],
    ids=["arn", "function", "local", "http", "grpc", "unix"],
)
async def test_an_attempt_is_named_after_its_target(
    traces: Traces, target: TargetKind, name: str, expected: dict[str, object]
) -> None:
    attempt = traces.around_attempt(ending(Status(StatusCode.OK)), target)
    await traces.around_call(attempt)(RecordingCall())
    [span] = traces.of_kind(SpanKind.CLIENT)

    assert name == span.name
    assert {**expected, "rpc.grpc.status_code": 0} == dict(span.attributes)


async def test_spans_name_the_tenant(traces: Traces) -> None:
    """That of the call and that of each attempt; without one there is no attribute."""
    call = RecordingCall()
    call.tenant = "acme"
    await traces.around_both(answer)(call)
    await traces.around_both(answer)(RecordingCall())
    spans = [span.attributes or {} for span in traces.spans.get_finished_spans()]

    assert ["acme", "acme", None, None] == [attributes.get("aws.lambda.tenant_id") for attributes in spans]
