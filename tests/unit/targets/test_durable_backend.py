"""Durable executions: equal calls become equal bytes, whatever differs around them."""

import json
from base64 import b64decode
from collections.abc import Callable

import pytest

from bridge.aws.events.event_body import GRPC_WEB
from bridge.aws.invoke import InvokeReply
from bridge.config.formats import EVENTS
from bridge.rpc.call import ClientCertificate, Peer
from bridge.rpc.metadata import Metadata
from bridge.targets.durable_backend import DurableBackend, RepeatableBackend, steady_part_of
from bridge.targets.gathering_target import BackendReply
from bridge.targets.lambda_backend import InvokeBackend
from bridge.targets.raw_backend import RawBackend
from tests.support.fakes import FakeCarrier, FakeClock, RecordingCall

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f:1/durable-execution/k/id"
REPLY = InvokeReply(b'{"statusCode":200,"headers":{},"body":""}', "id-1", ARN)
KEY = ("idempotency-key", "k")
CERTIFICATE = ClientCertificate("PEM", "CN=me", "CN=ca", "01", "", "")


def _invoke_backend(shape: str) -> Callable[[FakeCarrier, FakeClock], RepeatableBackend]:
    return lambda carrier, clock: InvokeBackend(carrier, event=EVENTS[shape], kind=GRPC_WEB, wall_clock=clock)


SHAPES: dict[str, Callable[[FakeCarrier, FakeClock], RepeatableBackend]] = {
    **{shape: _invoke_backend(shape) for shape in EVENTS},
    "raw": lambda carrier, clock: RawBackend(carrier, clock=clock),
}

CALLS: dict[str, Metadata] = {
    "first": (
        KEY,
        ("user-agent", "grpc-go"),
        ("traceparent", "00-1-1-01"),
        ("tracestate", "a=1"),
        ("x-request-id", "1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("a", "1"),
        ("b", "2"),
        ("a", "3"),
    ),
    "repeat": (
        ("b", "2"),
        ("a", "1"),
        ("grpc-previous-rpc-attempts", "1"),
        ("x-b3-traceid", "2"),
        ("x-envoy-attempt-count", "2"),
        ("x-amzn-trace-id", "Root=1"),
        ("baggage", "x=2"),
        ("a", "3"),
        KEY,
        ("user-agent", "grpc-go"),
        ("traceparent", "00-2-2-01"),
        ("x-forwarded-for", "192.0.2.99"),
    ),
}


class Bench:
    def __init__(self, shape: str) -> None:
        self.clock = FakeClock()
        self.carrier = FakeCarrier(*[REPLY] * 4, clock=self.clock, takes=1.5)
        self.backend = DurableBackend(SHAPES[shape](self.carrier, self.clock))

    async def send(
        self,
        metadata: Metadata,
        *,
        address: str = "10.0.0.1",
        certificate: ClientCertificate | None = None,
        seconds_left: float | None = 5.0,
        name: str = "k",
        body: bytes = b"\0\0\0\0\1x",
    ) -> BackendReply:
        call = RecordingCall(metadata=metadata, peer=Peer(address, certificate))
        call.execution_name = name
        reply = await self.backend.send(call, metadata, body, seconds_left)
        assert 0 == call.held
        return reply

    @property
    def sent(self) -> list[tuple[bytes, str | None]]:
        """Payloads and client contexts."""
        contexts = [headers.get("x-amz-client-context") for headers in self.carrier.headers]
        return list(zip(self.carrier.payloads, contexts, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_repeat_is_equal_to_the_byte(shape: str) -> None:
    """Another time, request id, deadline, client's address, trace and order of metadata; another process, too."""
    bench, restarted = Bench(shape), Bench(shape)
    await bench.send(CALLS["first"])
    await bench.send(CALLS["repeat"], address="10.0.0.2", seconds_left=1.0)
    await restarted.send(CALLS["first"], address="::1", seconds_left=None)

    assert 1 == len({*bench.sent, *restarted.sent})


@pytest.mark.parametrize("shape", SHAPES)
async def test_another_request_is_another_payload(shape: str) -> None:
    """Another message, and in all shapes but raw another client or other metadata."""
    bench = Bench(shape)
    await bench.send(CALLS["first"])
    await bench.send(CALLS["first"], body=b"\0\0\0\0\1y")
    await bench.send((*CALLS["first"], ("c", "4")))
    await bench.send(CALLS["first"], certificate=CERTIFICATE)

    assert 4 - (shape == "raw") == len(set(bench.sent))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_without_a_name_is_as_ever(shape: str) -> None:
    """The function learns of its deadline and its client."""
    bench = Bench(shape)
    await bench.send(CALLS["first"], name="")
    [(payload, context)] = bench.sent
    told = payload if context is None else b64decode(context)

    assert b"grpc-timeout" in told
    assert b"192.0.2.1, 10.0.0.1" in told
    assert b"00-1-1-01" in told


async def test_the_times_of_an_execution_are_fixed() -> None:
    bench = Bench("http-v2")
    await bench.send(CALLS["first"], certificate=CERTIFICATE)
    event = json.loads(bench.carrier.payloads[0])
    context = event["requestContext"]

    assert ("durable-1", 0, "01/Jan/1970:00:00:00 +0000", "0.0.0.0") == (
        context["requestId"],
        context["timeEpoch"],
        context["time"],
        context["http"]["sourceIp"],
    )
    assert "CN=me" == context["authentication"]["clientCert"]["subjectDN"]
    assert "k" == event["headers"]["idempotency-key"]
    assert event["headers"].keys().isdisjoint({"traceparent", "tracestate", "grpc-timeout", "x-request-id"})


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_executions_arn_goes_with_the_reply(shape: str) -> None:
    assert (("x-amzn-durable-execution-arn", ARN),) == (await Bench(shape).send(CALLS["first"])).trailing


def test_values_of_one_name_keep_their_order() -> None:
    assert (("a", "1"), ("a", "3"), ("b", "2")) == steady_part_of((("b", "2"), ("a", "1"), ("a", "3")))
