"""Full duplex with a function: the bridge's side against the function's own, with a real client in front."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from bridge.aws.events.duplex_order import KEY, PinnedCertificate
from bridge.aws.invoke import InvokeReply
from bridge.carriers.duplex.carrier import DuplexCarrier, facts_of
from bridge.carriers.duplex.certificate import make_certificate
from bridge.carriers.duplex.instances import Instances, Reply
from bridge.carriers.duplex.kept import KeptCarriers
from bridge.carriers.duplex.rendezvous import MAX_STRANGERS_OF_ONE, Arrival, Arrived, Rendezvous
from bridge.carriers.http2.connection import Http2Connection
from bridge.config.schema import Duplex
from bridge.http2.native import NativeEngine
from bridge.rpc.address import TcpAddress
from bridge.rpc.errors import FunctionFailed, RpcError, Throttled
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits
from bridge.targets.grpc_target import GrpcTarget, passed_metadata
from lambda_fn import LambdaServer
from tests.support.behaviours import Method, add
from tests.support.byte_methods import stream_stream, unary_stream, unary_unary
from tests.support.lambda_channel import LambdaContextDouble
from tests.support.listening import eventually, listening, port_of
from tests.support.serving import serving


class Functions:
    """Runs a handler for each invocation, as Lambda does, and counts them."""

    def __init__(self, handler: Any, *, remaining: int = 60_000) -> None:
        self._handler = handler
        self._remaining = remaining
        self._threads = ThreadPoolExecutor(64)
        self.invoked = 0
        self.running = 0
        self.error: Exception | None = None
        """Raised in place of an invocation."""

    async def invoke(self, payload: bytes) -> InvokeReply:
        self.invoked += 1
        if self.error is not None:
            raise self.error
        context = LambdaContextDouble(remaining=self._remaining, aws_request_id=f"request-{self.invoked}")
        self.running += 1
        try:
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._threads, self._handler, json.loads(payload), context)
        finally:
            self.running -= 1
        return InvokeReply(json.dumps(reply).encode(), context.aws_request_id)

    async def dry_run(self) -> None: ...


class Bridge:
    """A server whose one target is a function in full duplex."""

    def __init__(self, address: str, functions: Functions, rendezvous: Rendezvous, carrier: DuplexCarrier) -> None:
        self.address = address
        self.functions = functions
        self.rendezvous = rendezvous
        self.carrier = carrier

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])


@asynccontextmanager
async def bridged(
    methods: Mapping[str, Method] | Any,
    *,
    settings: Duplex | None = None,
    tls: bool = False,
    remaining: int = 60_000,
    **options: Any,
) -> AsyncIterator[Bridge]:
    server = LambdaServer(**options)
    if isinstance(methods, Mapping):
        add(server, methods)
        handler: Any = server.handler
    else:
        handler = methods
    context, pem = make_certificate() if tls else (None, None)
    found = socket.create_server(("127.0.0.1", 0))  # to know the port before it is advertised
    port = found.getsockname()[1]
    found.close()
    rendezvous = Rendezvous(
        TcpAddress("127.0.0.1", port),
        certificate=None if pem is None else PinnedCertificate(pem),
        tls=context,
    )
    rendezvous.listen(TcpAddress("127.0.0.1", port))
    functions, figures = Functions(handler, remaining=remaining), TargetFigures("greeter")
    carrier = DuplexCarrier(
        "greeter",
        functions,
        place=rendezvous,
        settings=settings or Duplex(),
        limits=Limits(max_request=64 << 20, max_response=None),
        observer=figures,
    )
    target = GrpcTarget(
        carrier,
        clock=asyncio.get_running_loop().time,
        metadata_of=lambda call: (*passed_metadata(call), *facts_of(call)),
    )
    context_of_server = serving(target.handle, new_engine=NativeEngine, limits=carrier.limits, streams=True)
    async with listening(context_of_server) as running:
        yield Bridge(f"127.0.0.1:{port_of(running)}", functions, rendezvous, carrier)
    await carrier.close()
    await rendezvous.close()
    await eventually(lambda: functions.running == 0)
    server.close()


async def _chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"re: " + request


def _echo(request: bytes, context: Any) -> bytes:
    return b"echo " + request


def _request_id(request: bytes, context: Any) -> bytes:
    return str(context.lambda_context.aws_request_id).encode()


METHODS: dict[str, Method] = {
    "Chat": ("stream_stream", _chat),
    "Echo": ("unary_unary", _echo),
    "RequestId": ("unary_unary", _request_id),
}


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


async def _status(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_a_function_that_knows_no_duplex_is_said_to() -> None:
    async with bridged(lambda event, context: {"statusCode": 404}) as bridge, bridge.channel() as channel:
        code, details = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
    assert grpc.StatusCode.UNIMPLEMENTED is code
    assert "grpc-lambda-fn" in details


async def test_a_function_that_never_connects_is_unavailable_with_the_address() -> None:
    def sleeps(event: Any, context: Any) -> Any:
        assert KEY in event
        return asyncio.run(asyncio.sleep(1.0))

    async with bridged(sleeps, settings=Duplex(attach=0.2)) as bridge, bridge.channel() as channel:
        code, details = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
        assert str(bridge.rendezvous.address) in details
        assert "security groups" in details


async def test_the_reason_of_a_function_that_cannot_connect_reaches_the_caller() -> None:
    async with bridged(METHODS, duplex=["10.0.0.0/8"]) as bridge, bridge.channel() as channel:
        code, details = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
    assert grpc.StatusCode.UNAVAILABLE is code
    assert "forbidden" in details


@pytest.mark.parametrize(
    ("error", "code"),
    [(Throttled("busy"), grpc.StatusCode.UNAVAILABLE), (FunctionFailed("crashed"), grpc.StatusCode.INTERNAL)],
)
async def test_errors_of_invoke_are_those_of_the_calls_that_wait(error: RpcError, code: grpc.StatusCode) -> None:
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        bridge.functions.error = error
        found = await asyncio.gather(*(_status(unary_unary(channel, "/test.Test/Echo")(b"")) for _ in range(25)))
        assert {(code, str(error))} == set(found)
        bridge.functions.error = None
        assert b"echo again" == await unary_unary(channel, "/test.Test/Echo")(b"again")


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
        opened = _attached_by_hand(event)
        opened.recv(1 << 16)
        asyncio.run(asyncio.sleep(0.3))
        opened.close()
        return {"statusCode": 200}

    async with bridged(dies) as bridge, bridge.channel() as channel:
        code, _ = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
    assert 1 == bridge.functions.invoked


async def test_an_unexpected_error_ends_the_calls_that_wait() -> None:
    """They would wait for ever otherwise."""
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        bridge.functions.error = KeyError("a fault of ours")
        code, details = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
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
        opened = _attached_by_hand(event)
        sockets.append(opened)
        _read_until_headers(opened)
        loop.call_soon_threadsafe(late.set)
        return {"statusCode": 200, "headers": {"grpc-lambda-bridge-duplex": ""}}

    async with bridged(returns_early) as bridge, bridge.channel() as channel:
        call = unary_unary(channel, "/test.Test/Echo")(b"")
        await late.wait()
        await eventually(lambda: bridge.functions.running == 0)
        (opened,) = sockets
        opened.sendall(_trailers_only(status=b"5"))
        code, _ = await _status(call)
        opened.close()
    assert grpc.StatusCode.NOT_FOUND is code


def _attached_by_hand(event: Any) -> socket.socket:
    """Follow the order as lambda_fn does, with a server that says nothing after its SETTINGS."""
    order = event[KEY]
    host, _, port = order["address"].rpartition(":")
    opened = socket.create_connection((host, int(port)))
    opened.sendall(f"GLB1 {order['token']} request-1 60000\n".encode())
    opened.sendall(bytes.fromhex("000000040000000000"))  # SETTINGS
    return opened


def _read_until_headers(opened: socket.socket) -> None:
    """Read the client's preface and its frames up to the first HEADERS."""
    read = opened.makefile("rb").read
    read(24)
    kind = -1
    while kind != 1:
        head = read(9)
        kind = head[3]
        read(int.from_bytes(head[:3], "big"))


def _trailers_only(*, status: bytes) -> bytes:
    """A response on stream 1 that is over at once: :status 200, content-type, grpc-status."""
    block = bytes([0x88])
    for name, value in ((b"content-type", b"application/grpc"), (b"grpc-status", status)):
        block += bytes([0, len(name)]) + name + bytes([len(value)]) + value
    return len(block).to_bytes(3, "big") + bytes([1, 5]) + (1).to_bytes(4, "big") + block


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
        opened = _attached_by_hand(event)
        _read_until_headers(opened)
        opened.sendall(refusal)
        opened.recv(1 << 16)
        opened.close()
        return {"statusCode": 200}

    async with bridged(refuses) as bridge, bridge.channel() as channel:
        code, details = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
    assert grpc.StatusCode.UNAVAILABLE is code
    assert "may have run" not in details


async def test_a_server_that_says_goaway_gets_no_more_calls_and_ends_those_it_has() -> None:
    """The next call goes to another instance."""

    def leaves(event: Any, context: Any) -> Any:
        opened = _attached_by_hand(event)
        _read_until_headers(opened)
        opened.sendall(bytes.fromhex("0000080700000000000000000100000000"))  # GOAWAY: stream 1 is processed
        leaving.set()
        goes_on.wait(10)
        opened.sendall(_trailers_only(status=b"5"))
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
        assert grpc.StatusCode.NOT_FOUND is (await _status(first))[0]
        assert grpc.StatusCode.NOT_FOUND is (await _status(second))[0]


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

    async def invoke(token: str) -> Reply:
        invoked.set()
        await asyncio.sleep(30)
        return Reply(reason="", knows_duplex=True)

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
    meeting.arrived(Arrival(transport, "request-1", 60.0, b""))

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


# -- strangers ---------------------------------------------------------------------------------------------------------


async def _sends(address: TcpAddress, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "line",
    [
        b"GLB1 " + b"x" * 43 + b" request-1 60000\n",
        b"GLB1\n",
        b"\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"x" * 300,
        bytes(range(256)),
    ],
)
async def test_a_stranger_without_a_token_gets_nothing(line: bytes) -> None:
    async with bridged(METHODS) as bridge:
        assert b"" == await _sends(bridge.rendezvous.address, line)
        await eventually(lambda: bridge.rendezvous.refused == 1)


async def test_a_token_serves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was used gets nothing, also while its instance lives."""
    lines: list[bytes] = []

    def watches(event: Any, context: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        return server.handler(event, context)

    server = LambdaServer()
    add(server, METHODS)
    async with bridged(watches) as bridge, bridge.channel() as channel:
        assert b"echo 1" == await unary_unary(channel, "/test.Test/Echo")(b"1")
        assert b"" == await _sends(bridge.rendezvous.address, lines[0])
        assert b"echo 2" == await unary_unary(channel, "/test.Test/Echo")(b"2")
        assert 1 == bridge.functions.invoked
    server.close()


async def test_a_token_that_comes_late_gets_nothing() -> None:
    """Its invocation has been given up."""
    lines: list[bytes] = []

    def sleeps(event: Any, context: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        return asyncio.run(asyncio.sleep(0.5))

    async with bridged(sleeps, settings=Duplex(attach=0.2)) as bridge, bridge.channel() as channel:
        code, _ = await _status(unary_unary(channel, "/test.Test/Echo")(b""))
        assert grpc.StatusCode.UNAVAILABLE is code
        assert b"" == await _sends(bridge.rendezvous.address, lines[0])
        await eventually(lambda: bridge.rendezvous.refused == 1)


async def test_a_token_of_another_function_or_bridge_serves_that_one_alone() -> None:
    """Two functions of a bridge: each token leads to the calls of its own. Another bridge does not know it."""
    lines: list[bytes] = []

    def tells(event: Any, context: Any) -> Any:
        lines.append(f"GLB1 {event[KEY]['token']} request-1 60000\n".encode())
        return asyncio.run(asyncio.sleep(1.0))

    async with bridged(tells, settings=Duplex(attach=0.8)) as bridge, bridged(METHODS) as other:
        async with bridge.channel() as channel, other.channel() as other_channel:
            call = unary_unary(channel, "/test.Test/Echo")(b"")
            await eventually(lambda: bool(lines))
            assert b"" == await _sends(other.rendezvous.address, lines[0])
            assert b"echo 1" == await unary_unary(other_channel, "/test.Test/Echo")(b"1")
            assert grpc.StatusCode.UNAVAILABLE is (await _status(call))[0]
        assert 1 == other.functions.invoked


async def test_strangers_do_not_keep_a_function_out() -> None:
    """Silent ones give way to those who come later, and a function says at once who it is."""
    async with bridged(METHODS) as bridge, bridge.channel() as channel:
        address = bridge.rendezvous.address
        silent = [await asyncio.open_connection(address.host, address.port) for _ in range(2 * MAX_STRANGERS_OF_ONE)]
        assert b"echo 1" == await unary_unary(channel, "/test.Test/Echo")(b"1")
        assert bridge.rendezvous.refused >= MAX_STRANGERS_OF_ONE - 1
        for _, writer in silent:
            writer.close()


async def test_a_stranger_has_a_few_seconds() -> None:
    rendezvous = Rendezvous(TcpAddress("127.0.0.1", 0), line_seconds=0.05)
    address = rendezvous.listen(TcpAddress("127.0.0.1", 0))
    assert b"" == await _sends(address, b"GLB1 ")
    assert 1 == rendezvous.refused
    await rendezvous.close()
