"""Both HTTP/2 engines under an unmodified client: the bridge's own, and h2 as the reference."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from lambda_fn.examples import echo_pb2, echo_pb2_grpc
from tests.support.bridge_process import EXAMPLES, RunningBridge, running_bridge
from tests.support.byte_methods import trailers_of

pytestmark = pytest.mark.slow

WHOLE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

Request = echo_pb2.EchoRequest


@pytest.fixture(scope="module", params=["native", "h2"])
def bridge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    config = {**EXAMPLES, "http2": {"engine": request.param}}
    with running_bridge(tmp_path_factory.mktemp(request.param), config) as running:
        yield running


@pytest.fixture
def echo(bridge: RunningBridge) -> Iterator[echo_pb2_grpc.EchoStub]:
    with grpc.insecure_channel(bridge.address, WHOLE) as channel:
        yield echo_pb2_grpc.EchoStub(channel)


def test_unary_with_metadata(echo: echo_pb2_grpc.EchoStub) -> None:
    """There and back, binary values too."""
    sent = (("echo-initial-a", "1"), ("echo-trailing-b-bin", bytes(range(256))))
    reply, call = echo.Unary.with_call(Request(text="hi"), metadata=sent)

    assert "hi" == reply.text
    assert "1" == dict(call.initial_metadata())["echo-initial-a"]
    assert bytes(range(256)) == dict(call.trailing_metadata())["echo-trailing-b-bin"]


def test_streams_both_ways(echo: echo_pb2_grpc.EchoStub) -> None:
    """Gathered for the function, given back in order."""
    texts = [str(number) for number in range(50)]

    assert texts == [reply.text for reply in echo.BidiStream(Request(text=text) for text in texts)]


def test_large_messages(echo: echo_pb2_grpc.EchoStub) -> None:
    """Far above every window: 3 MiB in, 4 MiB out."""
    text = "x" * (3 << 20)

    assert text == echo.Unary(Request(text=text)).text
    assert 4 << 20 == len(echo.Big(echo_pb2.BigRequest(size=4 << 20)).data)


def test_an_error_with_its_details(echo: echo_pb2_grpc.EchoStub) -> None:
    """Code, message and details."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.Fail(echo_pb2.FailRequest(code=9, message="not so, ü", details=["why"]))

    assert grpc.StatusCode.FAILED_PRECONDITION is caught.value.code()
    assert "not so, ü" == caught.value.details()
    details = trailers_of(caught.value)["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    assert b"why" in details


def test_deadline_and_cancellation(echo: echo_pb2_grpc.EchoStub, bridge: RunningBridge) -> None:
    """The client's deadline ends the call in time; a cancelled one leaves no stream behind."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.Sleep(echo_pb2.SleepRequest(seconds=3), timeout=0.3)
    cancelled = echo.Sleep.future(echo_pb2.SleepRequest(seconds=3))
    cancelled.cancel()

    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
    bridge.wait_until(lambda: "bridge_streams 0.0" in bridge.get("/metrics"))


def test_many_at_once(echo: echo_pb2_grpc.EchoStub) -> None:
    """Of a hundred calls those beyond the function's ten instances are throttled; each of the others gets its own
    answer.
    """
    futures = {str(number): echo.Unary.future(Request(text=str(number))) for number in range(100)}
    failures = {text: future.exception() for text, future in futures.items()}
    answered = [text for text, failure in failures.items() if failure is None]

    assert answered == [futures[text].result().text for text in answered]
    assert {grpc.StatusCode.UNAVAILABLE} >= {failure.code() for failure in failures.values() if failure}
    assert 10 <= len(answered)
