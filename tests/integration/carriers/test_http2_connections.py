"""The connections to a gRPC server: opened, shared, drained, lost and opened again. Servers are real sockets, most
speak in frames.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sized
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.carriers.grpc.carrier import GrpcCarrier
from bridge.carriers.http1.connect import Dialer
from bridge.carriers.http1.proxies import Proxies
from bridge.carriers.http1.resolver import Resolver, SocketAddress
from bridge.carriers.http2.connection import Http2Connection
from bridge.carriers.http2.liveness import ConnectionTimes
from bridge.carriers.http2.pool import Http2Pool, Http2PoolLimits
from bridge.config.schema import TargetTls
from bridge.config.target import GrpcTargetSpec as Server
from bridge.layers.retry import retry
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Handler
from bridge.rpc.envelope import envelope
from bridge.rpc.errors import (
    BuffersFull,
    ConnectionLost,
    DeadlineExceeded,
    Draining,
    MessageTooLarge,
    NotProcessed,
    Overloaded,
    RpcError,
    Unreachable,
)
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import RetryPolicy
from bridge.rpc.status import OK, StatusCode
from bridge.targets.grpc_target import MAX_REPEATED, GrpcTarget, with_headers
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.frames import RESPONSE, TRAILERS
from tests.support.http2_server import END, FrameServer, ServerConnection, Stream, frame_server
from tests.support.served import StreamedCall
from tests.support.stream_server import stream_server
from tests.support.tls import Authority
from tests.support.upstream import Peer

HELLO = envelope(b"hello")


def carrier_for(address: str, **options: Any) -> GrpcCarrier:
    tls = options.get("tls")
    if address.startswith("unix:"):
        return GrpcCarrier(Server(UnixAddress(Path(address.removeprefix("unix:")))), **options)
    host, _, port = address.rpartition(":")
    return GrpcCarrier(Server(TcpAddress(host, int(port)), tls=tls is not None), **options)


@asynccontextmanager
async def handler_for(server: FrameServer | str, **options: Any) -> AsyncIterator[Handler]:
    """The target behind the retry layer."""
    carrier = carrier_for(server if isinstance(server, str) else server.address, **options)
    target = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({}))
    try:
        yield retry(target.handle, policy=RetryPolicy(backoff=0.01), target=TargetFigures("t"), clock=FakeClock())
    finally:
        await carrier.close()


def recorded(**more: Any) -> RecordingCall:
    return RecordingCall("/test.Frames/Say", body=HELLO, **more)


async def called(handler: Handler, **more: Any) -> RecordingCall:
    call = recorded(**more)
    async with asyncio.timeout(20):
        await handler(call)
    return call


async def failure(handler: Handler, **more: Any) -> RpcError:
    with pytest.raises(RpcError) as raised:
        await called(handler, **more)
    return raised.value


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.001)


def _has_more_than(held: Sized, number: int) -> bool:
    return len(held) > number


def silent(_connection: ServerConnection, _stream: Stream) -> None:
    """Never answers."""


# -- sharing -----------------------------------------------------------------------------------------------------------


async def test_calls_share_a_connection() -> None:
    async with frame_server() as server, handler_for(server) as handler:
        for _ in range(3):
            await asyncio.gather(*[called(handler) for _ in range(20)])

    assert 1 == len(server.connections)
    assert 60 == len(server.requests)


async def test_another_connection_is_opened_when_the_server_takes_no_more_streams() -> None:
    """As many as its SETTINGS_MAX_CONCURRENT_STREAMS on each; who waits is served when one ends."""
    waiting: list[tuple[ServerConnection, Stream]] = []
    async with (
        frame_server(lambda *ask: waiting.append(ask), settings={3: 2}) as server,
        handler_for(server) as handler,
    ):
        calls = [asyncio.get_running_loop().create_task(called(handler)) for _ in range(5)]
        await until(lambda: len(waiting) == 5)
        for connection, stream in waiting:
            connection.reply(stream.stream_id)
        await asyncio.gather(*calls)

    assert [2, 2, 1] == [len(connection.streams) for connection in server.connections]


async def test_calls_wait_in_line_where_no_more_connections_may_be_opened() -> None:
    """In the order they came, and one that gives up leaves the line."""
    waiting: list[tuple[ServerConnection, Stream]] = []
    async with frame_server(lambda *ask: waiting.append(ask), settings={3: 1}) as server:
        carrier = carrier_for(server.address)
        carrier.pool._limits = Http2PoolLimits(connections=1)
        handler = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle
        calls = [
            asyncio.get_running_loop().create_task(called(handler, metadata=(("n", str(number)),)))
            for number in range(4)
        ]
        await until(lambda: waiting)
        calls[2].cancel()
        for position in range(3):
            await until(partial(_has_more_than, waiting, position))
            connection, stream = waiting[position]
            connection.reply(stream.stream_id)
        await asyncio.wait(calls)
        await carrier.close()

    assert ["0", "1", "3"] == [stream.fields["n"] for _, stream in waiting]
    assert 1 == len(server.connections)


async def test_the_line_is_bounded() -> None:
    async with frame_server(silent, settings={3: 1}) as server:
        carrier = carrier_for(server.address)
        carrier.pool._limits = Http2PoolLimits(connections=1, waiting=2)
        handler = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle
        loop = asyncio.get_running_loop()
        calls = [loop.create_task(called(handler))]
        await until(lambda: server.requests)
        calls += [loop.create_task(called(handler)) for _ in range(2)]
        await asyncio.sleep(0)
        error = await failure(handler)
        await carrier.close()
        await asyncio.wait(calls)

    assert isinstance(error, Overloaded)
    assert {Draining} == {type(call.exception()) for call in calls}


async def test_a_server_that_takes_no_streams_for_now_is_waited_for() -> None:
    """Without a second connection, which it would treat alike."""
    async with frame_server(settings={3: 0}) as server, handler_for(server) as handler:
        call = asyncio.get_running_loop().create_task(called(handler))
        await until(lambda: server.connections)
        await asyncio.sleep(0.05)
        server.connections[0].write(server.connections[0].make.settings({3: 1}))
        await call

    assert 1 == len(server.connections)


async def test_a_client_that_does_not_read_holds_up_nobody_else() -> None:
    """A hundred streams whose clients take nothing, on one connection: each is sent what its window allows, and others
    go on.
    """

    def answer(connection: ServerConnection, stream: Stream) -> None:
        if stream.fields.get("n") != "flood":
            connection.reply(stream.stream_id)
            return
        connection.write(connection.make.headers(stream.stream_id, RESPONSE))
        for _ in range(16):
            connection.write(connection.make.data(stream.stream_id, envelope(bytes(16_000))))

    async with frame_server(answer) as server, handler_for(server) as handler:
        stuck = []
        for _ in range(100):
            call = StreamedCall("/test.Frames/Flood", b"x", metadata=(("n", "flood"),))
            call.is_window_open = False
            call.serve(handler)
            stuck.append(call)
        await until(lambda: all(call.events for call in stuck))
        for _ in range(20):
            await called(handler)
        for call in stuck:
            await call.finish()

    assert 1 == len(server.connections)


async def test_the_server_holds_the_client_back() -> None:
    """A server that takes nothing: the client's messages are not read beyond its window."""
    async with (
        frame_server(silent, settings={4: 100_000}, opens_windows=False) as server,
        handler_for(server) as handler,
    ):
        call = StreamedCall("/test.Frames/Upload", *[bytes(10_000)] * 100)
        call.serve(handler)
        await until(lambda: server.requests and len(server.requests[0].body) >= 60_000)
        await asyncio.sleep(0.05)
        left = len(call._envelopes)
        await call.finish()
        await until(lambda: server.connections[0].resets)

    assert left > 80
    assert len(server.requests[0].body) <= 100_000


# -- what has provably not begun ---------------------------------------------------------------------------------------


async def test_a_refused_stream_is_sent_again() -> None:
    """REFUSED_STREAM says that nothing was done. The same messages go out, once."""
    asked: list[Stream] = []

    def answer(connection: ServerConnection, stream: Stream) -> None:
        asked.append(stream)
        if len(asked) == 1:
            connection.write(connection.make.rst_stream(stream.stream_id, 7))
        else:
            connection.reply(stream.stream_id)

    async with frame_server(answer) as server, handler_for(server) as handler:
        call = await called(handler)

    assert call.status == OK
    assert [HELLO, HELLO] == [stream.body for stream in asked]
    assert 2 == call.attempts
    assert 1 == call.messages_received


async def test_a_server_that_goes_on_refusing_has_its_way() -> None:
    async with (
        frame_server(
            lambda connection, stream: connection.write(connection.make.rst_stream(stream.stream_id, 7))
        ) as server,
        handler_for(server) as handler,
    ):
        call = recorded()
        with pytest.raises(NotProcessed) as raised:
            await handler(call)

    assert 3 == call.attempts == len(server.requests)
    assert StatusCode.UNAVAILABLE is raised.value.code


async def test_a_large_call_that_was_refused_is_not_sent_again() -> None:
    async with (
        frame_server(
            lambda connection, stream: connection.write(connection.make.rst_stream(stream.stream_id, 7))
        ) as server,
        handler_for(server) as handler,
    ):
        call = RecordingCall("/test.Frames/Say", body=envelope(bytes(MAX_REPEATED)))
        with pytest.raises(NotProcessed):
            await handler(call)

    assert 1 == len(server.requests)


async def test_streams_beyond_a_goaway_are_sent_again_on_a_new_connection() -> None:
    """Those that the server has begun end on the old one."""

    def answer(connection: ServerConnection, stream: Stream) -> None:
        if connection is not server.connections[0]:
            connection.reply(stream.stream_id)
        elif stream.stream_id == 3:
            connection.write(connection.make.goaway(1))

    async with frame_server(answer) as server, handler_for(server) as handler:
        one = asyncio.get_running_loop().create_task(called(handler))
        await until(lambda: server.requests)
        two = asyncio.get_running_loop().create_task(called(handler))
        await two
        server.connections[0].reply(1)
        await one
        await until(server.connections[0].is_over.is_set)

    assert 2 == len(server.connections)
    assert [OK, OK] == [one.result().status, two.result().status]


async def test_a_draining_server_finishes_its_calls() -> None:
    """The first GOAWAY of a drain: old calls end where they are, new ones go elsewhere, the old connection closes at
    last.
    """

    def answer(connection: ServerConnection, stream: Stream) -> None:
        if len(server.connections) > 1:
            connection.reply(stream.stream_id)

    async with frame_server(answer) as server, handler_for(server) as handler:
        old = asyncio.get_running_loop().create_task(called(handler))
        await until(lambda: server.requests)
        first = server.connections[0]
        first.write(first.make.goaway(2**31 - 1))
        await asyncio.sleep(0.05)
        await called(handler)
        assert not first.is_over.is_set()
        first.reply(1)
        await old
        await until(first.is_over.is_set)

    assert [1, 1] == [len(connection.streams) for connection in server.connections]


async def test_a_lost_connection_may_have_run_its_calls() -> None:
    """No repetition, and later calls find a new connection."""

    def answer(connection: ServerConnection, stream: Stream) -> None:
        if len(server.connections) == 1:
            connection.close()
        else:
            connection.reply(stream.stream_id)

    async with frame_server(answer) as server, handler_for(server) as handler:
        error = await failure(handler)
        later = await called(handler)

    assert isinstance(error, ConnectionLost)
    assert error.may_have_run
    assert later.status == OK


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux tells what has arrived")
async def test_a_call_that_arrived_behind_the_close_is_sent_again() -> None:
    """The server closes an idle connection while a call is on its way: its system says that nothing of it had come."""
    async with frame_server() as server, handler_for(server) as handler:
        await called(handler)
        opened = server.connections[0]._writer.get_extra_info("socket")
        call = asyncio.get_running_loop().create_task(called(handler))
        await asyncio.sleep(0)  # the call is written in the next turn of the loop
        with socket.socket(fileno=os.dup(opened.fileno())) as same:
            # The system sends the end now. The call is written before the loop reads that.
            same.shutdown(socket.SHUT_RDWR)
        await call

    assert call.result().status == OK
    assert 2 == call.result().attempts
    assert [1, 1] == [len(connection.streams) for connection in server.connections]


async def test_what_was_never_written_has_not_begun() -> None:
    """A connection that ends in the same turn of the loop."""
    async with frame_server() as server:
        carrier = carrier_for(server.address)
        handler = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle
        await called(handler)
        connection = await carrier.pool.connection()
        call = asyncio.get_running_loop().create_task(called(handler))
        await asyncio.sleep(0)
        assert connection._sinks
        connection.abort(ConnectionLost("gone"))
        with pytest.raises(NotProcessed):
            await call
        await carrier.close()


# -- connecting --------------------------------------------------------------------------------------------------------


async def test_a_server_that_comes_back_is_found_soon() -> None:
    """Calls fail at once meanwhile, with the reason, and every one of them does."""
    async with frame_server() as server:
        port = int(server.address.rpartition(":")[2])
    async with handler_for(server) as handler:
        errors = [await failure(handler) for _ in range(30)]
        async with frame_server(port=port):
            while True:
                try:
                    call = await called(handler)
                    break
                except Unreachable:
                    await asyncio.sleep(0.01)

    assert {f"cannot connect to {server.address} (ECONNREFUSED)"} == {str(error) for error in errors}
    assert call.status == OK


async def test_one_attempt_serves_all_who_wait() -> None:
    """Its failure, too; each gets an exception of its own."""
    attempts = 0

    async def open_socket(address: SocketAddress) -> socket.socket:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0.05)
        raise ConnectionRefusedError(111, "refused")

    dialer = Dialer(Resolver(), Proxies(), open_socket=open_socket)
    carrier = carrier_for("127.0.0.1:1", dialer=dialer)
    handler = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle
    errors = await asyncio.gather(*[failure(handler) for _ in range(50)])
    await carrier.close()

    assert 1 == attempts
    assert 50 == len({id(error) for error in errors})


async def test_addresses_are_tried_in_turn() -> None:
    """The first does not answer, the second refuses, the third is the server."""
    async with frame_server() as server:
        port = int(server.address.rpartition(":")[2])
        tried: list[str] = []

        async def look_up(host: str, port: int) -> list[SocketAddress]:
            return [(socket.AF_INET, (f"127.0.0.{last}", port)) for last in (7, 8, 1)]

        async def open_socket(address: SocketAddress) -> socket.socket:
            tried.append(address[1][0])
            if address[1][0] == "127.0.0.7":
                await asyncio.Event().wait()
            if address[1][0] == "127.0.0.8":
                raise ConnectionRefusedError(111, "refused")
            opened = socket.socket()
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, address[1])
            return opened

        dialer = Dialer(Resolver(look_up), Proxies(), open_socket=open_socket)
        async with handler_for(f"server.test:{port}", dialer=dialer) as handler:
            await called(handler)

    assert ["127.0.0.7", "127.0.0.8", "127.0.0.1"] == tried


async def test_a_deadline_bounds_the_wait_for_a_connection() -> None:
    """The time that it took is not given to the server a second time."""
    now = 1000.0

    async def open_socket(address: SocketAddress) -> socket.socket:
        nonlocal now
        now += 3.0
        opened = socket.socket()
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, address[1])
        return opened

    async with frame_server() as server:
        dialer = Dialer(Resolver(), Proxies(), open_socket=open_socket)
        carrier = carrier_for(server.address, dialer=dialer, clock=lambda: now)
        handler = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle
        await called(handler, deadline=FakeClock().now + 5)
        await carrier.close()
        late = carrier_for(server.address, dialer=dialer, clock=lambda: now)
        error = await failure(
            GrpcTarget(late, clock=FakeClock(), metadata_of=with_headers({})).handle, deadline=FakeClock().now + 2
        )
        await late.close()

    assert "2000m" == server.requests[0].fields["grpc-timeout"]
    assert isinstance(error, DeadlineExceeded)
    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2: it answers in HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP/2: the first frame is not SETTINGS"),
        (b"", "closed the connection before it spoke HTTP/2"),
    ],
)
async def test_what_is_no_grpc_server_is_told(first: bytes, expected: str) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)

    async with stream_server(accept) as server, handler_for(server.address) as handler:
        error = await failure(handler)

    assert isinstance(error, Unreachable)
    assert expected in str(error)
    assert server.address in str(error)


async def test_a_server_without_settings_is_given_up() -> None:
    async with (
        frame_server(settings=None) as server,
        handler_for(server, connect_timeout=0.05) as handler,
    ):
        error = await failure(handler)

    assert isinstance(error, Unreachable)
    assert "no SETTINGS within 0.05 s" in str(error)


async def test_a_server_that_closes_what_it_accepts_is_not_asked_for_ever() -> None:
    """SETTINGS and goodbye, each time: calls end UNAVAILABLE."""
    async with frame_server(settings=None) as server:

        def goodbye() -> None:
            for connection in server.connections:
                connection.write(connection.make.settings({}), connection.make.goaway(0))
                connection.close()

        async def say_goodbye() -> None:
            while True:
                await asyncio.sleep(0.005)
                goodbye()

        task = asyncio.get_running_loop().create_task(say_goodbye())
        async with handler_for(server) as handler:
            error = await failure(handler)
        task.cancel()

    assert StatusCode.UNAVAILABLE is error.code
    assert not error.may_have_run


async def test_tls_without_http2_is_told(tmp_path: Path) -> None:
    """ALPN: a server that does not offer h2 is no gRPC server."""
    authority = Authority(tmp_path)
    context = authority.server("localhost")
    context.set_alpn_protocols(["http/1.1"])
    async with (
        frame_server(tls=context) as server,
        handler_for(
            f"localhost:{server.address.rpartition(':')[2]}", tls=TargetTls(ca=authority.certificate)
        ) as handler,
    ):
        error = await failure(handler)

    assert isinstance(error, Unreachable)
    assert "ALPN h2" in str(error)


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    async with frame_server(path=tmp_path / "s") as server, handler_for(server) as handler:
        await called(handler)

    assert "localhost" == server.requests[0].fields[":authority"]


async def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    async with handler_for(f"unix:{tmp_path / 'none'}") as handler:
        error = await failure(handler)

    assert f"cannot connect to unix:{tmp_path / 'none'} (ENOENT)" == str(error)


async def test_through_a_proxy() -> None:
    """As gRPC's libraries do: CONNECT, for plain targets too, with the credentials of the URL."""
    heads: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        to_server = await asyncio.open_connection("127.0.0.1", port)
        try:
            await Peer(reader, writer).join(*to_server)
        finally:
            to_server[1].close()

    async with frame_server() as server, stream_server(accept) as proxy:
        port = int(server.address.rpartition(":")[2])
        dialer = Dialer(Resolver(), Proxies.from_environment({"grpc_proxy": f"http://me:pass@{proxy.address}"}))
        async with handler_for("far.away.test:50051", dialer=dialer) as handler:
            call = await called(handler)

    assert call.status == OK
    assert heads[0].startswith(b"CONNECT far.away.test:50051 HTTP/1.1\r\n")
    assert base64.b64encode(b"me:pass") in heads[0]


# -- life --------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_nobody_uses_is_closed() -> None:
    """With a goodbye; the next call opens another."""
    times = ConnectionTimes(idle=0.05, look=0.01)
    async with frame_server() as server, handler_for(server, times=times) as handler:
        await called(handler)
        await until(server.connections[0].is_over.is_set)
        await called(handler)

    assert [0] == server.connections[0].goaways
    assert 2 == len(server.connections)


async def test_a_silent_server_is_asked_for_a_sign_of_life() -> None:
    """With calls in flight; one that gives it keeps its calls."""
    times = ConnectionTimes(keepalive=0.05, keepalive_timeout=5, look=0.01)
    async with frame_server(silent) as server, handler_for(server, times=times) as handler:
        call = asyncio.get_running_loop().create_task(called(handler))
        await until(lambda: server.connections and server.connections[0].pings >= 3)
        server.connections[0].reply(1)
        await call

    assert call.result().status == OK


async def test_a_dead_server_is_found_out() -> None:
    times = ConnectionTimes(keepalive=0.05, keepalive_timeout=0.05, look=0.01)
    async with (
        frame_server(silent, answers_pings=False) as server,
        handler_for(server, times=times) as handler,
    ):
        error = await failure(handler)

    assert isinstance(error, ConnectionLost)
    assert "no sign of life" in str(error)


async def test_a_server_that_does_not_read_is_given_up() -> None:
    times = ConnectionTimes(stall=0.1, look=0.02)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff" + b"\0\0\4\x08\0\0\0\0\0\x7f\0\0\0")
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # what a stuck process does
        await asyncio.Event().wait()

    async with stream_server(accept) as server, handler_for(server.address, times=times) as handler:
        call = StreamedCall("/test.Frames/Upload", *[bytes(1 << 20)] * 30)
        task = call.serve(handler)
        async with asyncio.timeout(20):
            await asyncio.wait((task,))

    assert isinstance(task.exception(), ConnectionLost)
    assert len(call._envelopes) > 10  # the rest was never read


async def test_a_server_that_reads_slowly_keeps_its_calls() -> None:
    """It takes longer than the time after which one that reads nothing is given up."""
    times = ConnectionTimes(stall=0.3, look=0.02)
    taken = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        writer.write(b"\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff" + b"\0\0\4\x08\0\0\0\0\0\x7f\0\0\0")
        while part := await reader.read(60_000):
            taken += len(part)
            await asyncio.sleep(0.01)

    async with stream_server(accept, limit=10_000) as server, handler_for(server.address, times=times) as handler:
        call = StreamedCall("/test.Frames/Upload", *[bytes(4 << 20)] * 5)
        task = call.serve(handler)
        await asyncio.sleep(1)
        is_over = task.done()
        await call.finish()

    assert taken
    assert not is_over


async def test_a_closed_carrier_ends_its_calls() -> None:
    async with frame_server(silent) as server:
        carrier = carrier_for(server.address)
        handler = GrpcTarget(carrier, clock=FakeClock(), metadata_of=with_headers({})).handle
        call = asyncio.get_running_loop().create_task(called(handler))
        await until(lambda: server.requests)
        await carrier.close()
        await asyncio.wait((call,))
        late = await failure(handler)

    assert isinstance(call.exception(), Draining)
    assert isinstance(late, Draining)


async def test_a_server_that_breaks_http2_loses_its_connection_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each call gets one status, the log one line, and later calls another connection."""

    def answer(connection: ServerConnection, stream: Stream) -> None:
        if len(server.connections) > 1:
            connection.reply(stream.stream_id)
        elif len(connection.streams) == 3:
            connection.write(b"\xff\xff\xff\0\0\0\0\0\1")

    async with frame_server(answer) as server, handler_for(server) as handler:
        with caplog.at_level(logging.WARNING, "bridge"):
            errors = await asyncio.gather(*[failure(handler) for _ in range(3)])
        later = await called(handler)

    assert {ConnectionLost} == {type(error) for error in errors}
    assert {StatusCode.UNAVAILABLE} == {error.code for error in errors}
    assert 1 == len(caplog.records)
    assert later.status == OK


async def test_metadata_that_the_server_does_not_take_is_not_sent() -> None:
    async with frame_server(settings={6: 2000}) as server, handler_for(server) as handler:
        error = await failure(handler, metadata=(("x-long", "x" * 3000),))
        await called(handler)

    assert isinstance(error, MessageTooLarge)
    assert "(2000 bytes)" in str(error)
    assert 1 == len(server.requests)


async def test_what_comes_of_a_reply_counts_in_the_buffers() -> None:
    """And is given back: a large message in pieces, and one above all that there is."""

    def answer(connection: ServerConnection, stream: Stream) -> None:
        size = int(stream.fields["n"])
        connection.write(connection.make.headers(stream.stream_id, RESPONSE))
        body = envelope(bytes(size))
        for at in range(0, len(body), 16_000):
            connection.write(connection.make.data(stream.stream_id, body[at : at + 16_000]))
        connection.write(connection.make.headers(stream.stream_id, TRAILERS, flags=END))

    async with frame_server(answer, opens_windows=True) as server, handler_for(server) as handler:
        fits = recorded(metadata=(("n", "200000"),))
        await handler(fits)
        held = fits.held
        large = recorded(metadata=(("n", "250000"),), buffers=Buffers(100_000))
        with pytest.raises(BuffersFull):
            await handler(large)

    assert 0 == held == large.held
    assert [200_000] == [len(message) for message in fits.messages]


async def test_a_connection_may_be_opened_by_the_other_side() -> None:
    """The bridge accepts, over TLS or not, and is the client all the same."""
    pool = Http2Pool("the other side", _never_dials)
    made: asyncio.Future[Http2Connection] = asyncio.get_running_loop().create_future()

    def accept() -> Http2Connection:
        connection = Http2Connection(pool)
        made.set_result(connection)
        return connection

    listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    server = FrameServer(
        lambda connection, stream: connection.reply(stream.stream_id),
        settings={},
        is_early=False,
        answers_pings=True,
        opens_windows=True,
    )
    serving = asyncio.get_running_loop().create_task(server.accept(reader, writer))
    connection = await made
    await connection.wait_until_ready()
    ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    class Sink:
        def response(self, fields: object, *, ended: bool) -> None: ...
        def body(self, data: bytes, *, ended: bool) -> None: ...
        def trailers(self, fields: object) -> None:
            ended.set_result(fields)

        def reset(self, code: int) -> None: ...
        def failed(self, error: RpcError) -> None: ...
        def has_room(self) -> None: ...

    stream = connection.open((*_REQUEST,), Sink())
    connection.half_close(stream)

    assert TRAILERS == await ended
    connection.close()
    await serving
    listener.close()


_REQUEST = ((":method", "POST"), (":scheme", "http"), (":path", "/a/B"), (":authority", "x"))


async def _never_dials(make: Callable[[], Http2Connection]) -> Http2Connection:
    raise AssertionError("nobody asked for a connection")
