"""The life of a function's instances in full duplex: how they begin, are replaced, and end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from typing import Any

import grpc
import pytest

from bridge.aws.events.duplex_order import KEY
from bridge.aws.invoke import InvokeReply
from bridge.carriers.duplex.attached import AttachedReply
from bridge.carriers.duplex.carrier import DuplexCarrier
from bridge.carriers.duplex.instances import Instances
from bridge.carriers.duplex.kept import KeptCarriers
from bridge.carriers.duplex.rendezvous import Arrived, InstanceArrival, Rendezvous
from bridge.carriers.http2.connection import FLUSHED_AT, Http2Connection
from bridge.config.schema import Duplex
from bridge.rpc.address import TcpAddress
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import ConnectionLost, FunctionFailed, RpcError
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits
from lambda_fn import LambdaServer
from tests.support.behaviours import add
from tests.support.byte_methods import stream_stream, unary_unary
from tests.support.duplex_bridge import (
    METHODS,
    attached_by_hand,
    bridged,
    read_until_headers,
    status_of,
    trailers_only,
)
from tests.support.lambda_channel import LambdaContextDouble
from tests.support.listening import eventually


async def test_calls_that_outlive_the_invocation_end_and_say_why() -> None:
    async with bridged(METHODS, remaining=1_600) as bridge, bridge.channel() as channel:
        call = stream_stream(channel, "/test.Test/Chat")()
        await call.write(b"x")
        assert b"re: x" == await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert grpc.StatusCode.UNAVAILABLE is raised.value.code()
        assert "time limit" in (raised.value.details() or "")


async def test_the_end_of_the_invocation_ends_its_calls() -> None:
    """A function that dies in the middle of a stream: UNAVAILABLE, and nothing is repeated."""

    def dies(event: Any, context: Any) -> Any:
        opened = attached_by_hand(event)
        opened.recv(1 << 16)
        asyncio.run(asyncio.sleep(0.3))
        opened.close()
        return {"statusCode": 200}

    async with bridged(dies) as bridge, bridge.channel() as channel:
        code, _ = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
    assert 1 == bridge.functions.invoked


async def test_an_unexpected_error_ends_the_calls_that_wait() -> None:
    """They would wait for ever otherwise."""
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        bridge.functions.error = KeyError("a fault of ours")
        code, details = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
    assert (grpc.StatusCode.INTERNAL, "internal error") == (code, details)


async def test_the_next_instance_is_invoked_before_it_is_needed() -> None:
    """Calls that come when the first one leaves find the second attached."""
    async with bridged(METHODS, remaining=2_600, settings=Duplex(calls=1, idle=30)) as bridge:
        async with bridge.channel() as channel:
            call = stream_stream(channel, "/test.Test/Chat")()
            await call.write(b"x")
            assert b"re: x" == await call.read()
            await eventually(lambda: len(bridge.carrier.pool) == 2)
            await call.write(b"y")
            assert b"re: y" == await call.read()
            call.cancel()
        assert 2 == bridge.functions.invoked


async def test_an_instance_without_calls_has_no_successor() -> None:
    async with bridged(METHODS, remaining=2_400, settings=Duplex(idle=30)) as bridge, bridge.channel() as channel:
        assert b"echo 1" == await unary_unary(channel, "/test.Test/Echo")(b"1")
        await eventually(lambda: bridge.functions.running == 0)
        assert 1 == bridge.functions.invoked


async def test_what_a_function_sent_last_is_read_although_its_invocation_has_ended() -> None:
    """The reply of the invocation may overtake the last bytes of the connection."""
    sockets: list[socket.socket] = []
    late = asyncio.Event()
    loop = asyncio.get_running_loop()

    def returns_early(event: Any, context: Any) -> Any:
        opened = attached_by_hand(event)
        sockets.append(opened)
        read_until_headers(opened)
        loop.call_soon_threadsafe(late.set)
        return {"statusCode": 200, "headers": {"grpc-lambda-bridge-duplex": ""}}

    async with bridged(returns_early) as bridge, bridge.channel() as channel:
        call = unary_unary(channel, "/test.Test/Echo")(b"")
        await late.wait()
        await eventually(lambda: bridge.functions.running == 0)
        (opened,) = sockets
        opened.sendall(trailers_only(status=b"5"))
        code, _ = await status_of(call)
        opened.close()
    assert grpc.StatusCode.NOT_FOUND is code


@pytest.mark.parametrize(
    "refusal",
    [
        bytes.fromhex("00000403000000000100000007"),  # RST_STREAM of stream 1: REFUSED_STREAM
        bytes.fromhex("0000080700000000000000000000000000"),  # GOAWAY: nothing was processed, NO_ERROR
    ],
    ids=["REFUSED_STREAM", "GOAWAY"],
)
async def test_a_call_that_the_server_has_not_begun_may_be_repeated(refusal: bytes) -> None:
    """The layer retry does it. Here is none, so the client learns that its call has not run."""

    def refuses(event: Any, context: Any) -> Any:
        opened = attached_by_hand(event)
        read_until_headers(opened)
        opened.sendall(refusal)
        opened.recv(1 << 16)
        opened.close()
        return {"statusCode": 200}

    async with bridged(refuses) as bridge, bridge.channel() as channel:
        code, details = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
    assert grpc.StatusCode.UNAVAILABLE is code
    assert "may have run" not in details


async def test_a_server_that_says_goaway_gets_no_more_calls_and_ends_those_it_has() -> None:
    """The next call goes to another instance."""

    def leaves(event: Any, context: Any) -> Any:
        opened = attached_by_hand(event)
        read_until_headers(opened)
        opened.sendall(bytes.fromhex("0000080700000000000000000100000000"))  # GOAWAY: stream 1 is processed
        leaving.set()
        goes_on.wait(10)
        opened.sendall(trailers_only(status=b"5"))
        opened.recv(1 << 16)
        opened.close()
        return {"statusCode": 200}

    leaving, goes_on = threading.Event(), threading.Event()
    async with bridged(leaves) as bridge, bridge.channel() as channel:
        first = unary_unary(channel, "/test.Test/Echo")(b"")
        await eventually(leaving.is_set)
        await asyncio.sleep(0.1)  # the GOAWAY is read
        second = unary_unary(channel, "/test.Test/Echo")(b"")
        await eventually(lambda: bridge.functions.invoked == 2)
        goes_on.set()
        assert grpc.StatusCode.NOT_FOUND is (await status_of(first))[0]
        assert grpc.StatusCode.NOT_FOUND is (await status_of(second))[0]


class MeetingDouble:
    """Knows the last one that is expected."""

    def __init__(self) -> None:
        self.arrived: Arrived

    def expect(self, arrived: Arrived) -> str:
        self.arrived = arrived
        return "token"

    def forget(self, token: str) -> None: ...


async def test_what_follows_the_line_at_once_is_read_as_http2() -> None:
    """The server speaks first. Its bytes may come before any task has run since the line was read."""
    meeting, invoked = MeetingDouble(), asyncio.Event()

    async def invoke(token: str) -> AttachedReply:
        invoked.set()
        await asyncio.sleep(30)
        return AttachedReply(reason="", knows_duplex=True)

    pool = Instances(
        "greeter",
        invoke=invoke,
        meeting=meeting,
        address="127.0.0.1:1",
        settings=Duplex(),
        observer=TargetFigures("greeter"),
    )
    waiting = asyncio.get_running_loop().create_task(pool.connection())
    await invoked.wait()
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    meeting.arrived(InstanceArrival(transport, "request-1", 60.0, b""))

    assert isinstance(transport.get_protocol(), Http2Connection)
    theirs.sendall(bytes.fromhex("000000040000000000"))
    await waiting
    await pool.close()
    theirs.close()


# -- the end of the bridge, and reloads --------------------------------------------------------------------------------


class _InvokerDouble:
    """Never returns, and notes its end."""

    def __init__(self) -> None:
        self.invoked = 0
        self.running = 0

    async def invoke(self, payload: bytes) -> InvokeReply:
        self.invoked += 1
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1
        raise AssertionError

    async def dry_run(self) -> None: ...


def _taken(kept: KeptCarriers, invoker: _InvokerDouble) -> DuplexCarrier:
    return kept.take("key", "greeter", invoker, settings=Duplex(), limits=Limits(), observer=TargetFigures("greeter"))


async def _kept() -> tuple[KeptCarriers, Rendezvous]:
    rendezvous = Rendezvous(TcpAddress("127.0.0.1", 1))
    return KeptCarriers(rendezvous), rendezvous


async def test_a_configuration_that_is_refused_leaves_the_invoker_of_the_one_in_force() -> None:
    kept, rendezvous = await _kept()
    first, second, third = _InvokerDouble(), _InvokerDouble(), _InvokerDouble()
    carrier = _taken(kept, first)
    assert carrier is _taken(kept, second)
    assert first is carrier.invoker
    kept.release("key", second)
    assert first is carrier.invoker
    assert carrier is _taken(kept, third)
    kept.release("key", first)
    assert third is carrier.invoker
    await kept.close()
    await rendezvous.close()


async def test_the_end_of_the_bridge_ends_what_a_former_configuration_has_begun() -> None:
    """An instance of a target that is gone is still there while it has calls."""
    kept, rendezvous = await _kept()
    invoker = _InvokerDouble()
    carrier = _taken(kept, invoker)
    waiting = asyncio.get_running_loop().create_task(carrier.pool.connection())
    await eventually(lambda: invoker.running == 1)
    kept.release("key", invoker)
    await kept.close()

    with pytest.raises(RpcError, match="the bridge stops"):
        await waiting
    assert 0 == invoker.running
    await rendezvous.close()


# -- instances that are of no use, and attempts that go wrong ----------------------------------------------------------

_NO_STREAMS = bytes.fromhex("000006040000000000") + bytes.fromhex("000300000000")
"""SETTINGS_MAX_CONCURRENT_STREAMS 0."""
_GOAWAY = bytes.fromhex("0000080700000000000000000000000000")


def _attached_with(event: Any, first: bytes) -> socket.socket:
    """Follow the order, with a server that begins in this way."""
    order = event[KEY]
    host, _, port = order["address"].rpartition(":")
    opened = socket.create_connection((host, int(port)))
    opened.sendall(f"GLB1 {order['token']} request-1 60000\n".encode() + first)
    return opened


@pytest.mark.parametrize(
    "first",
    [_NO_STREAMS, bytes.fromhex("000000040000000000") + _GOAWAY],
    ids=["no streams", "GOAWAY at once"],
)
async def test_a_server_that_takes_no_calls_is_not_invoked_again_and_again(first: bytes) -> None:
    """Each invocation costs money, and the next one would take none either."""

    def useless(event: Any, context: Any) -> Any:
        opened = _attached_with(event, first)
        while opened.recv(1 << 16):
            pass
        opened.close()
        return {"statusCode": 200}

    async with bridged(useless, settings=Duplex(calls=10)) as bridge, bridge.channel() as channel:
        found = await asyncio.gather(*(status_of(unary_unary(channel, "/test.Test/Echo")(b"")) for _ in range(25)))
        assert {grpc.StatusCode.UNAVAILABLE} == {code for code, _ in found}
        assert all("takes no call" in text for _, text in found)
        assert bridge.functions.invoked <= 25  # one for each call, if each came when the last had failed


async def test_an_attempt_that_fails_leaves_the_calls_that_another_one_can_serve() -> None:
    """15 calls wait for two instances with room for ten each. One of them fails."""

    async def fails_once(event: Any) -> Any:
        if bridge.functions.invoked == 1:
            await eventually(lambda: len(bridge.carrier.pool._waiting) == 15)
            has_failed.set()
            raise FunctionFailed("the function crashed")
        await has_failed.wait()
        await asyncio.sleep(0.1)  # the failure has been told

    has_failed = asyncio.Event()
    async with bridged(METHODS, settings=Duplex(calls=10)) as bridge, bridge.channel() as channel:
        bridge.functions.stand_in = fails_once
        found = await asyncio.gather(*(status_of(unary_unary(channel, "/test.Test/Echo")(b"")) for _ in range(15)))
        assert {grpc.StatusCode.OK: 10, grpc.StatusCode.INTERNAL: 5} == Counter(code for code, _ in found)
        assert 2 == bridge.functions.invoked


async def test_a_function_that_fails_after_it_has_connected_ends_the_attempt_at_once() -> None:
    """Its server has not spoken yet. The calls that wait get what Invoke says, long before `attach` is over."""

    async def fails(event: Any) -> Any:
        opened = _attached_with(event, b"")
        await asyncio.sleep(0.3)
        sockets.append(opened)  # it stays open
        raise FunctionFailed("the function crashed")

    sockets: list[socket.socket] = []
    async with bridged(METHODS, settings=Duplex(attach=60)) as bridge, bridge.channel() as channel:
        bridge.functions.stand_in = fails
        found = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
        assert (grpc.StatusCode.INTERNAL, "the function crashed") == found
    for opened in sockets:
        opened.close()


async def test_a_lost_invoke_connection_before_the_function_came_lets_the_call_be_repeated() -> None:
    """Nothing of the call has been sent. A function that runs and connects later finds that its token is void."""
    lines: list[bytes] = []

    async def loses(event: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        raise ConnectionLost("the connection was lost; the function may have run")

    seen: list[RpcError] = []
    async with bridged(METHODS, failures=seen) as bridge, bridge.channel() as channel:
        bridge.functions.stand_in = loses
        code, _ = await status_of(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
        assert [(False, True)] == [(each.may_have_run, each.is_transient) for each in seen]
        address = bridge.rendezvous.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(lines[0])
        assert b"" == await reader.read()
        writer.close()


async def test_a_lost_invoke_connection_harms_no_call_of_an_attached_instance() -> None:
    lost = asyncio.Event()

    async def loses(event: Any) -> Any:
        context = LambdaContextDouble(remaining=60_000)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(None, server.handler, event, context)
        await lost.wait()
        del running  # it goes on by itself
        raise ConnectionLost("the connection was lost; the function may have run")

    server = LambdaServer()
    add(server, METHODS)
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        bridge.functions.stand_in = loses
        call = stream_stream(channel, "/test.Test/Chat")()
        await call.write(b"1")
        assert b"re: 1" == await call.read()
        lost.set()
        await eventually(lambda: bridge.functions.running == 0)
        await call.write(b"2")
        assert b"re: 2" == await call.read()
        await call.done_writing()
        assert grpc.StatusCode.OK is await call.code()
        assert 1 == bridge.functions.invoked
    server.close()


async def test_an_instance_that_comes_to_a_retired_target_ends_with_its_last_call() -> None:
    """A reload has replaced the target while the function was attaching: nobody pays for `idle` after the call."""
    release = threading.Event()

    def slowly(event: Any, context: Any) -> Any:
        release.wait(10)
        return server.handler(event, context)

    server = LambdaServer()
    add(server, METHODS)
    async with bridged(slowly, settings=Duplex(idle=60)) as bridge, bridge.channel() as channel:
        call = stream_stream(channel, "/test.Test/Chat")()
        await call.write(b"1")
        await eventually(lambda: bridge.functions.running == 1)
        bridge.carrier.retire()
        release.set()
        assert b"re: 1" == await call.read()
        await call.write(b"2")
        assert b"re: 2" == await call.read()
        await call.done_writing()
        assert grpc.StatusCode.OK is await call.code()
        await eventually(lambda: bridge.functions.running == 0)
        assert 1 == bridge.functions.invoked
    server.close()


async def test_a_call_that_was_written_is_never_repeated_when_the_connection_ends() -> None:
    """The function's system tells that the call never arrived. A native server's call would be sent again."""
    sockets: list[socket.socket] = []

    def serves_once(event: Any, context: Any) -> Any:
        opened = attached_by_hand(event)
        read_until_headers(opened)
        opened.sendall(trailers_only(status=b"5"))
        sockets.append(opened)
        is_over.wait(10)
        opened.close()
        return {"statusCode": 200}

    is_over = threading.Event()
    async with bridged(serves_once) as bridge, bridge.channel() as channel:
        assert grpc.StatusCode.NOT_FOUND is (await status_of(unary_unary(channel, "/test.Test/Echo")(b"")))[0]
        call = bridge.carrier.start("/test.Test/Echo", (), account=OpenAccount(Buffers(1 << 30)), timeout=None)
        await call.connect()
        sockets[0].shutdown(socket.SHUT_RDWR)  # its end is on the way before the call is written
        await call.send(envelope(bytes(FLUSHED_AT)))  # so much is written at once
        with pytest.raises(ConnectionLost, match="may have run") as raised:
            await call.receive()
        call.finish()
        is_over.set()
    assert raised.value.may_have_run


async def test_calls_that_come_just_as_an_instance_ends_are_served() -> None:
    """The idle time ends while a new call begins, again and again."""
    async with bridged(METHODS, settings=Duplex(idle=0.1)) as bridge, bridge.channel() as channel:
        echo = unary_unary(channel, "/test.Test/Echo")
        for number in range(20):
            assert b"echo x" == await echo(b"x")
            await asyncio.sleep(0.09 + 0.003 * number)
        assert 1 < bridge.functions.invoked <= 20


async def test_one_environment_serves_one_order_after_the_other_and_two_at_once() -> None:
    """Lambda runs the next invocation in the same process. Each call sees the invocation that carries it."""
    async with bridged(METHODS, settings=Duplex(idle=0.1, calls=1)) as bridge, bridge.channel() as channel:
        request_id = unary_unary(channel, "/test.Test/RequestId")
        assert b"request-1" == await request_id(b"")
        await eventually(lambda: bridge.functions.running == 0)
        chat = stream_stream(channel, "/test.Test/Chat")()
        await chat.write(b"x")
        assert b"re: x" == await chat.read()
        assert b"request-3" == await request_id(b"")
        chat.cancel()


async def test_a_function_that_does_not_connect_once_is_asked_again_by_the_next_call() -> None:
    """As while an alias moves from an old version to a new one."""
    server = LambdaServer()
    add(server, METHODS)
    old = [True]

    def moves(event: Any, context: Any) -> Any:
        return {"statusCode": 404} if old.pop() else server.handler(event, context)

    async with bridged(moves) as bridge, bridge.channel() as channel:
        echo = unary_unary(channel, "/test.Test/Echo")
        assert grpc.StatusCode.UNIMPLEMENTED is (await status_of(echo(b"1")))[0]
        old.append(False)
        assert (grpc.StatusCode.OK, "") == await status_of(echo(b"2"))
    server.close()


@pytest.mark.parametrize("words", [b"request\x001", b"r\xc3\xa4quest", b"x" * 150, b"-"])
async def test_a_request_id_that_no_metadata_may_have_harms_no_client(words: bytes) -> None:
    """What one function says wrongly stays with it: the client's connection goes on."""

    def says(event: Any, context: Any) -> Any:
        order = event[KEY]
        host, _, port = order["address"].rpartition(":")
        opened = socket.create_connection((host, int(port)))
        opened.sendall(b"GLB1 " + order["token"].encode() + b" " + words + b" 60000\n")
        opened.sendall(bytes.fromhex("000000040000000000"))
        read_until_headers(opened)
        opened.sendall(trailers_only(status=b"5"))
        opened.recv(1 << 16)
        opened.close()
        return {"statusCode": 200}

    async with bridged(says) as bridge, bridge.channel() as channel:
        call = unary_unary(channel, "/test.Test/Echo")(b"")
        assert grpc.StatusCode.NOT_FOUND is (await status_of(call))[0]
        found = str(dict(await call.trailing_metadata()).get("x-amzn-requestid", ""))
        assert len(found) <= 128
        assert found.isascii()
        assert found.isprintable()


# -- what TCP is told, and what is bounded -----------------------------------------------------------------------------


@pytest.mark.skipif("sys.platform != 'linux'", reason="these options are Linux's")
async def test_both_sides_notice_a_dead_peer() -> None:
    """A NAT gateway forgets a silent connection after 350 s, and a machine that is gone sends nothing."""
    dialled: list[tuple[Any, socket.socket]] = []

    class Dialling(socket.socket):
        def connect(self, address: Any) -> None:
            dialled.append((address, self))
            super().connect(address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lambda_fn.duplex.connection.socket.socket", Dialling)
        async with bridged(METHODS) as bridge, bridge.channel() as channel:
            call = stream_stream(channel, "/test.Test/Chat")()
            await call.write(b"x")
            assert b"re: x" == await call.read()
            connection = await bridge.carrier.pool.connection()
            of_bridge = connection._transport.get_extra_info("socket")
            address = bridge.rendezvous.address
            (of_function,) = (each for to, each in dialled if to == (address.host, address.port))
            for opened in (of_bridge, of_function):
                assert 1 == opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert 60 >= opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                assert 60_000 == opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            call.cancel()


async def test_calls_that_wait_for_an_instance_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.carriers.duplex.instances.MAX_WAITING", 5)
    release = threading.Event()

    def waits(event: Any, context: Any) -> Any:
        release.wait(10)
        return {"statusCode": 404}

    async with bridged(waits) as bridge, bridge.channel() as channel:
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(status_of(unary_unary(channel, "/test.Test/Echo")(b""))) for _ in range(6)]
        (refused,), waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        code, text = await refused
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
        assert "5 calls wait for an instance" in text
        release.set()
        assert {grpc.StatusCode.UNIMPLEMENTED} == {code for code, _ in await asyncio.gather(*waiting)}
