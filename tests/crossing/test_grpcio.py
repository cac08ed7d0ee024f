"""grpcio, sync and aio, unmodified, through the bridge to functions in the local Lambda."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from lambda_fn.examples import echo_pb2, echo_pb2_grpc, helloworld_pb2, helloworld_pb2_grpc
from tests.support.bridge_process import RunningBridge
from tests.support.byte_methods import trailers_of, unary_unary

pytestmark = pytest.mark.slow


@pytest.fixture
def echo(channel: grpc.Channel) -> echo_pb2_grpc.EchoStub:
    return echo_pb2_grpc.EchoStub(channel)


def test_unary(channel: grpc.Channel) -> None:
    """The tutorial's client, untouched."""
    stub = helloworld_pb2_grpc.GreeterStub(channel)

    assert "Hello, you!" == stub.SayHello(helloworld_pb2.HelloRequest(name="you")).message


def test_metadata_trailers_and_the_request_id(echo: echo_pb2_grpc.EchoStub) -> None:
    """Initial and trailing metadata come back whole, and AWS's request id with them."""
    sent = (
        ("echo-initial-a", "one, two"),
        ("echo-initial-a", "three"),
        ("echo-trailing-b-bin", b"\x00\x01,\xff"),
        ("echo-trailing-b-bin", b""),
    )
    reply, call = echo.Unary.with_call(echo_pb2.EchoRequest(text="x"), metadata=sent, timeout=5)

    assert [("echo-initial-a", "one, two"), ("echo-initial-a", "three")] == [
        tuple(pair) for pair in call.initial_metadata() if pair.key.startswith("echo")
    ]
    trailers = call.trailing_metadata()
    assert [b"\x00\x01,\xff", b""] == [v for k, v in trailers if k == "echo-trailing-b-bin"]
    assert [reply.request_id] == [v for k, v in trailers if k == "x-amzn-requestid"]
    seen = {(m.name, m.text or m.binary) for m in reply.metadata}
    assert {("echo-initial-a", "one, two"), ("echo-trailing-b-bin", b"\x00\x01,\xff")} <= seen
    assert 0 < reply.time_remaining <= 5


def test_an_unhandled_exception_is_grpcios_own_answer(echo: echo_pb2_grpc.EchoStub) -> None:
    """A servicer that raises gives what grpcio's server gives."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.Raise(echo_pb2.RaiseRequest(message="no"))

    assert (grpc.StatusCode.UNKNOWN, "Exception calling application: no") == (
        caught.value.code(),
        caught.value.details(),
    )


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_status_code_crosses(echo: echo_pb2_grpc.EchoStub, code: grpc.StatusCode) -> None:
    """Code, message and details are the function's, unchanged."""
    number = code.value[0]
    with pytest.raises(grpc.RpcError) as caught:
        echo.Fail(echo_pb2.FailRequest(code=number, message="warum? ünd\n2", details=["d"]))

    trailers = trailers_of(caught.value)
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (code, "warum? ünd\n2") == (caught.value.code(), caught.value.details())
    assert (number, "warum? ünd\n2", 1) == (details.code, details.message, len(details.details))


def test_a_deadline_ends_the_call_in_time(echo: echo_pb2_grpc.EchoStub) -> None:
    """DEADLINE_EXCEEDED at the deadline, whatever the function does."""
    with pytest.raises(grpc.RpcError) as caught:
        echo.Sleep(echo_pb2.SleepRequest(seconds=3), timeout=0.3)

    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()


def test_a_stream_that_fails_keeps_its_messages(echo: echo_pb2_grpc.EchoStub) -> None:
    """Two messages, then ABORTED."""
    replies = echo.ServerStream(echo_pb2.EchoRequest(text="x", count=5, fail_after=2))
    received = [next(replies).index, next(replies).index]
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)

    assert [0, 1] == received
    assert grpc.StatusCode.ABORTED is caught.value.code()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_cross(echo: echo_pb2_grpc.EchoStub, compression: grpc.Compression) -> None:
    """Messages travel as the client compressed them."""
    text = "x" * 100_000
    reply = echo.Unary(echo_pb2.EchoRequest(text=text), compression=compression)

    assert text == reply.text


def test_a_large_reply_crosses_whole(echo: echo_pb2_grpc.EchoStub) -> None:
    """3 MiB through flow control."""
    assert 3 << 20 == len(echo.Big(echo_pb2.BigRequest(size=3 << 20)).data)


def test_an_unknown_service_is_unimplemented(channel: grpc.Channel) -> None:
    """No route: UNIMPLEMENTED, saying what to look at."""
    call = unary_unary(channel, "/no.Such/Method")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"")

    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()
    assert "no.Such/Method" in str(caught.value.details())


async def test_aio_streams(bridge: RunningBridge) -> None:
    """grpc.aio: all four kinds on one channel, at the same time."""
    async with grpc.aio.insecure_channel(bridge.address) as channel:
        echo = echo_pb2_grpc.EchoStub(channel)

        async def requests() -> AsyncIterator[echo_pb2.EchoRequest]:
            for text in ("a", "b", "c"):
                yield echo_pb2.EchoRequest(text=text)

        async def collect(call: Any) -> list[str]:
            return [reply.text async for reply in call]

        unary, server, client, bidi = await asyncio.gather(
            echo.Unary(echo_pb2.EchoRequest(text="u")),
            collect(echo.ServerStream(echo_pb2.EchoRequest(text="s", count=2))),
            echo.ClientStream(requests()),
            collect(echo.BidiStream(requests())),
        )

    assert ("u", ["s", "s"], "a b c", ["a", "b", "c"]) == (unary.text, server, client.text, bidi)


async def test_a_cancelled_call_is_logged_once_and_its_neighbour_goes_on(
    bridge: RunningBridge,
) -> None:
    """RST_STREAM ends one call; one log line says CANCELLED; another call on the connection is served."""
    async with grpc.aio.insecure_channel(bridge.address) as channel:
        echo = echo_pb2_grpc.EchoStub(channel)
        cancelled = echo.SleepAsync(echo_pb2.SleepRequest(seconds=5))
        neighbour = echo.ServerStream(echo_pb2.EchoRequest(text="x", count=1, delay=0.5))
        await asyncio.sleep(0.2)  # so that the call is under way; earlier would be fine, and another test
        cancelled.cancel()
        replies = [reply.text async for reply in neighbour]
    logged = await asyncio.to_thread(bridge.wait_for_log, "/dev.Echo/SleepAsync")

    assert ["x"] == replies
    assert ["CANCELLED"] == [entry["code"] for entry in logged]
