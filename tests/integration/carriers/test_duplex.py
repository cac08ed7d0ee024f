"""Full duplex with a function: the bridge's side against the function's own, with a real client in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from bridge.aws.events.duplex_order import KEY
from bridge.config.schema import Duplex
from bridge.rpc.errors import FunctionFailed, RpcError, Throttled
from tests.support.byte_methods import stream_stream, unary_stream, unary_unary
from tests.support.duplex_bridge import (
    METHODS,
    bridged,
    status_of,
)
from tests.support.listening import eventually


@pytest.mark.parametrize("tls", [False, True])
async def test_each_answer_comes_before_the_next_question(tls: bool) -> None:
    async with bridged(METHODS, tls=tls) as bridge, bridge.channel() as channel:
        call = stream_stream(channel, "/test.Test/Chat")()
        for number in range(10):
            await call.write(b"%d" % number)
            assert b"re: %d" % number == await call.read()
        await call.done_writing()
        assert grpc.aio.EOF is await call.read()
        assert grpc.StatusCode.OK is await call.code()
    assert 1 == bridge.functions.invoked


async def test_many_calls_share_few_invocations() -> None:
    """One attempt serves as many waiting calls as an instance takes."""
    async with bridged(METHODS, settings=Duplex(calls=10)) as bridge, bridge.channel() as channel:
        calls = [stream_stream(channel, "/test.Test/Chat")() for _ in range(100)]
        await asyncio.gather(*(call.write(b"x") for call in calls))
        assert [b"re: x"] * 100 == await asyncio.gather(*(call.read() for call in calls))
        assert 10 == bridge.functions.invoked == len(bridge.carrier.pool)
        for call in calls:
            call.cancel()


async def test_the_trailing_request_id_is_that_of_the_invocation() -> None:
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        call = unary_unary(channel, "/test.Test/RequestId")(b"")
        assert b"request-1" == await call
        assert "request-1" == dict(await call.trailing_metadata())["x-amzn-requestid"]


async def test_an_idle_instance_ends_and_the_next_call_invokes_again() -> None:
    async with bridged(METHODS, settings=Duplex(idle=0.1)) as bridge, bridge.channel() as channel:
        echo = unary_unary(channel, "/test.Test/Echo")
        assert b"echo 1" == await echo(b"1")
        await eventually(lambda: bridge.functions.running == 0)
        assert b"echo 2" == await echo(b"2")
        assert 2 == bridge.functions.invoked


async def test_a_cancellation_reaches_the_servicer() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def wait(request: bytes, context: Any) -> bytes:
        loop.call_soon_threadsafe(begun.set)
        try:
            await asyncio.sleep(30)
        finally:
            loop.call_soon_threadsafe(cancelled.set)
        return b""

    async with bridged({"Wait": ("unary_unary", wait)}) as bridge, bridge.channel() as channel:
        call = unary_unary(channel, "/test.Test/Wait")(b"")
        await begun.wait()
        call.cancel()
        await cancelled.wait()


@pytest.mark.parametrize("tls", [False, True])
async def test_messages_of_64_mib_pass_both_ways(tls: bool) -> None:
    large = bytes(range(256)) * (256 << 10)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with (
        bridged(METHODS, tls=tls, options=options) as bridge,
        grpc.aio.insecure_channel(bridge.address, options=options) as channel,
    ):
        assert b"echo " + large[5:] == await unary_unary(channel, "/test.Test/Echo")(large[5:])


async def test_a_client_that_does_not_read_holds_the_function_back() -> None:
    """Flow control reaches the servicer: what it yields waits there, and not in the bridge."""
    yielded = 0

    async def flood(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal yielded
        for _ in range(1000):
            yielded += 1
            yield bytes(1 << 20)

    async with bridged({"Flood": ("unary_stream", flood)}) as bridge, bridge.channel() as channel:
        call = unary_stream(channel, "/test.Test/Flood")(b"")
        assert bytes(1 << 20) == await call.read()
        before = -1
        while yielded != before:
            before = yielded
            await asyncio.sleep(0.5)
        assert yielded < 40
        assert bytes(1 << 20) == await call.read()
        call.cancel()


async def test_a_function_that_knows_no_duplex_is_said_to() -> None:
    async with bridged(lambda event, context: {"statusCode": 404}) as bridge, bridge.channel() as channel:
        code, details = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
    assert grpc.StatusCode.UNIMPLEMENTED is code
    assert "grpc-lambda-fn" in details


async def test_a_function_that_never_connects_is_unavailable_with_the_address() -> None:
    def sleeps(event: Any, context: Any) -> Any:
        assert KEY in event
        return asyncio.run(asyncio.sleep(1.0))

    async with bridged(sleeps, settings=Duplex(attach=0.2)) as bridge, bridge.channel() as channel:
        code, details = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
        assert str(bridge.rendezvous.address) in details
        assert "security groups" in details


async def test_the_reason_of_a_function_that_cannot_connect_reaches_the_caller() -> None:
    async with bridged(METHODS, duplex=["10.0.0.0/8"]) as bridge, bridge.channel() as channel:
        code, details = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
    assert grpc.StatusCode.UNAVAILABLE is code
    assert "forbidden" in details


@pytest.mark.parametrize(
    ("error", "code"),
    [(Throttled("busy"), grpc.StatusCode.UNAVAILABLE), (FunctionFailed("crashed"), grpc.StatusCode.INTERNAL)],
)
async def test_errors_of_invoke_are_those_of_the_calls_that_wait(error: RpcError, code: grpc.StatusCode) -> None:
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        bridge.functions.error = error
        found = await asyncio.gather(*(status_of(unary_unary(channel, "/test.Test/Echo")(b"")) for _ in range(25)))
        assert {(code, str(error))} == set(found)
        bridge.functions.error = None
        assert b"echo again" == await unary_unary(channel, "/test.Test/Echo")(b"again")
