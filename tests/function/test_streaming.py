"""Replies that leave while they are made, where the runtime can send them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import Any

import grpc
import pytest

from lambda_fn.streaming import StreamingReply
from tests.support.behaviours import ASYNC, SYNC
from tests.support.lambda_channel import (
    LambdaChannel,
    LambdaContextDouble,
    Outcome,
    Serve,
    frame,
    http_v2_event,
    received,
)

STREAMING = LambdaContextDouble(can_stream_replies=True)
OK_TRAILERS = frame(b"grpc-status:0\r\n", flags=0x80)


def reply_to(channel: LambdaChannel, method: str, body: bytes = frame(b"request")) -> Any:
    return channel.server.handler(http_v2_event(f"/test.Test/{method}", body), STREAMING)


@pytest.mark.parametrize("flavour", [SYNC, ASYNC])
def test_messages_leave_one_by_one(serve: Serve, flavour: Any) -> None:
    """The head first; each message when the servicer has made it; the status last."""
    gates = [Event(), Event(), Event()]
    gates[0].set()

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        for at, gate in enumerate(gates):
            gate.wait()
            yield str(at).encode()

    async def stream_async(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for at, gate in enumerate(gates):
            await asyncio.to_thread(gate.wait)
            yield str(at).encode()

    channel = serve(
        {"Stream": ("unary_stream", stream if flavour is SYNC else stream_async)},
        context=STREAMING,
    )
    reply = reply_to(channel, "Stream")
    assert isinstance(reply, StreamingReply)
    chunks = iter(reply.chunks)  # type: ignore[arg-type]  # LambdaServer's are sync
    seen = [next(chunks)]
    for gate in gates[1:]:
        gate.set()
        seen.append(next(chunks))

    assert reply.head is not None
    assert "application/grpc-web+proto" == reply.head["headers"]["content-type"]
    assert [frame(b"0"), frame(b"1"), frame(b"2")] == seen
    assert [OK_TRAILERS] == list(chunks)


@pytest.mark.parametrize("flavour", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_streamed_reply_says_the_same_as_a_buffered_one(serve: Serve, flavour: Any) -> None:
    """Every method that streams responses, in both forms."""
    streams = {name: each for name, each in flavour.items() if each[0].endswith("_stream")}
    buffered, streamed = serve(streams), serve(streams, context=STREAMING)

    for name in streams:
        expected = buffered.call(f"/test.Test/{name}", (b"1", b"2"))
        assert expected == streamed.call(f"/test.Test/{name}", (b"1", b"2"))


def test_methods_with_one_response_are_buffered(serve: Serve) -> None:
    """Nothing is to be gained; so are streams without a runtime that can, or with stream_replies=False."""
    methods = {"Echo": SYNC["Echo"], "Stream": SYNC["Stream"]}
    event = http_v2_event("/test.Test/Stream", frame(b""))

    assert isinstance(reply_to(serve(methods), "Echo"), dict)
    assert isinstance(serve(methods).server.handler(event, LambdaContextDouble()), dict)
    assert isinstance(reply_to(serve(methods, stream_replies=False), "Stream"), dict)


def test_a_url_gets_streams_whole_unless_it_is_said_that_it_streams(serve: Serve) -> None:
    """AWS's event does not tell the URL's invoke mode, and a buffered URL makes a 502 of a streamed reply."""
    event = http_v2_event("/test.Test/Stream", frame(b""), apiId="abc123")
    methods = {"Stream": SYNC["Stream"]}
    whole = serve(methods).server.handler(event, STREAMING)
    streamed = serve(methods, stream_replies=True).server.handler(event, STREAMING)

    assert isinstance(whole, dict)
    assert isinstance(streamed, StreamingReply)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (http_v2_event("/test.Test/Echo", frame(b"hi")), 200),
        (http_v2_event("/test.Test/Echo", b"\x00"), 200),
        (http_v2_event("/test.Test/Nowhere", frame(b"hi")), 200),
        (http_v2_event("/", b"", {"content-type": "text/html"}), 404),
    ],
    ids=["unary", "malformed", "unknown", "nothing there"],
)
def test_a_url_that_streams_gets_every_reply_in_that_form(serve: Serve, event: Any, status: int) -> None:
    """stream_replies=True: AWS would show the buffered form's JSON to the caller."""
    channel = serve({"Echo": SYNC["Echo"]}, stream_replies=True)
    reply: Any = channel.server.handler(event, STREAMING)

    assert isinstance(reply, StreamingReply)
    head, body = received(reply)
    assert status == head["statusCode"]
    assert (event["rawPath"] == "/test.Test/Echo" and body.endswith(OK_TRAILERS)) == (
        "grpc-status" not in head["headers"] and status == 200
    )


def test_a_stream_that_fails_at_once_is_trailers_only(serve: Serve) -> None:
    """Its status in the head, no body."""
    channel = serve({"Raises": SYNC["StreamRaisesAtOnce"]}, context=STREAMING)
    reply = reply_to(channel, "Raises")

    assert "2" == reply.head["headers"]["grpc-status"]
    assert b"" == b"".join(reply.chunks)


def test_the_deadline_ends_a_stream(serve: Serve) -> None:
    """What was sent stays sent; the status comes at the deadline."""

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.sleep(60)

    channel = serve({"Stream": ("unary_stream", stream)}, context=STREAMING)

    assert Outcome(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", (b"1",)) == channel.call(
        "/test.Test/Stream", timeout=0.1
    )


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_servicer_waits_for_a_slow_reader(serve: Serve, flavour: str) -> None:
    """No more than about a megabyte is held; all of it arrives, more than a buffered reply may be."""
    made: list[int] = []
    message = bytes(400_000)

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        for at in range(20):
            made.append(at)
            yield message

    async def stream_async(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for at in range(20):
            made.append(at)
            yield message

    channel = serve(
        {"Stream": ("unary_stream", stream if flavour == "sync" else stream_async)},
        context=STREAMING,
    )
    reply = reply_to(channel, "Stream")
    chunks = iter(reply.chunks)
    first = next(chunks)
    made_ahead = len(made)
    rest = b"".join(chunks)

    assert made_ahead <= 8
    assert frame(message) * 20 + OK_TRAILERS == first + rest


def test_a_reader_that_goes_away_ends_the_call(serve: Serve) -> None:
    """The servicer learns it and stops."""
    over = Event()

    def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(over.set)
        while True:
            yield bytes(100_000)

    channel = serve({"Stream": ("unary_stream", stream)}, context=STREAMING)
    chunks = reply_to(channel, "Stream").chunks
    next(chunks)
    chunks.close()

    assert over.wait(5)
