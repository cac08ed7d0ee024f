"""How connections and servers end: drain, age, idleness, silence; on real sockets with tiny limits."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from bridge.config.schema import Listener
from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.http2.native import NativeEngine
from bridge.rpc.address import UnixAddress
from bridge.rpc.call import Call
from bridge.rpc.envelope import envelope
from bridge.rpc.limits import ConnectionLimits
from bridge.rpc.status import StatusCode
from bridge.server.server import Server, ServerTimes, bind
from tests.support.byte_methods import unary_unary
from tests.support.h2_client import H2Client
from tests.support.listening import SocketClient, dialled, eventually, listening, port_of
from tests.support.serving import echo, serving

_METHOD = "/a.B/C"
_HELLO = envelope(b"hello")
_ENGINES: list[Callable[[EngineLimits], Engine]] = [H2Engine, NativeEngine]


@pytest.fixture(params=_ENGINES, ids=["h2", "native"])
def new_engine(request: pytest.FixtureRequest) -> Callable[[EngineLimits], Engine]:
    engine: Callable[[EngineLimits], Engine] = request.param
    return engine


_QUICK = ServerTimes(tick=0.01)


def _channel(server: Server) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port_of(server)}")


class Gate:
    """A handler that answers when it is let; it notes why it was cancelled, if it was."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()
        self.causes: list[str] = []

    async def __call__(self, call: Call) -> None:
        self.waiting += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.causes.append(type(call.cause).__name__)
            raise
        await echo(call)


async def test_drain_lets_calls_finish(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """Three calls in flight get their answers; new connections are refused meanwhile; then all is closed."""
    gate = Gate()
    served = serving(gate, new_engine=new_engine)
    async with listening(served) as server, _channel(server) as channel:
        port = port_of(server)
        method = unary_unary(channel, _METHOD)
        calls = [method(b"%d" % number) for number in range(3)]
        await eventually(lambda: gate.waiting == 3)
        draining = asyncio.get_running_loop().create_task(server.drain(allowed=10))
        await eventually(lambda: not _accepts(port))
        gate.open.set()
        answers = await asyncio.gather(*calls)
        async with asyncio.timeout(5):
            await draining

    assert [b"0", b"1", b"2"] == answers
    assert set() == server.connections
    assert [] == gate.causes


def _accepts(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_drain_ends_calls_when_its_time_is_over() -> None:
    """UNAVAILABLE, saying that the bridge stops; the handlers are cancelled."""
    gate = Gate()
    async with listening(serving(gate)) as server, _channel(server) as channel:
        call = unary_unary(channel, _METHOD)(b"")
        await eventually(lambda: gate.waiting)
        await server.drain(allowed=0.05)
        code, text = await call.code(), await call.details()

    assert grpc.StatusCode.UNAVAILABLE is code
    assert "the bridge is shutting down" in (text or "")
    assert ["Draining"] == gate.causes


async def test_handler_that_cleans_up_slowly_still_gives_its_status() -> None:
    """Last words have a moment: closing an upstream takes more than one turn of the loop."""

    async def tidy(call: Call) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.05)

    served = serving(tidy)
    async with listening(served) as server, dialled(server) as client:
        stream = client.h2.call(_HELLO)
        client.flush()
        await eventually(lambda: served.figures.streams_open)
        closing = asyncio.get_running_loop().create_task(server.close())
        await client.until_closed()
        await closing

    assert StatusCode.UNAVAILABLE == client.h2.replies[stream].status[0]
    assert [(stream, 0, b"")] == client.h2.goaways


async def test_drain_does_not_wait_for_idle_or_silent_connections(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """One that answers its PING, and one that never said a word."""
    served = serving(new_engine=new_engine)
    async with listening(served) as server, dialled(server) as idle, dialled(server) as silent:
        await idle.until(lambda: idle.h2.has_server_settings)
        await eventually(lambda: len(server.connections) == 2)
        async with asyncio.timeout(2):
            draining = asyncio.get_running_loop().create_task(server.drain(allowed=10))
            await idle.until_closed()
            await draining
        await silent.until_closed()

    assert 2 == len(idle.h2.goaways)


async def test_connection_that_comes_up_during_the_drain_is_told_too() -> None:
    """It was accepted before the listener closed, and spoke only after."""
    served = serving()
    async with listening(served, times=_QUICK) as server, dialled(server) as held, dialled(server) as late:
        held.h2.call(ended=False)
        held.flush()
        await eventually(lambda: served.figures.streams_open)
        (connection,) = [each for each in server.connections if each.engine.open_streams]
        await eventually(lambda: len(server.connections) == 2)
        hidden = server.connections - {connection}
        server.connections -= hidden  # as while its TLS handshake is under way
        draining = asyncio.get_running_loop().create_task(server.drain(allowed=10))
        await held.until(lambda: held.h2.goaways)
        server.connections |= hidden
        await late.until_closed()
        held.h2.h2.reset_stream(1)
        await held.until_closed()
        async with asyncio.timeout(5):
            await draining

    assert set() == server.connections


async def test_call_on_a_connection_that_the_kernel_has_accepted_is_served(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """The client has connected and sent its call. The bridge drains before it has looked at its socket."""
    async with listening(serving(new_engine=new_engine), times=_QUICK) as server:
        client = H2Client()
        stream = client.call(_HELLO)
        opened = socket.create_connection(("127.0.0.1", port_of(server)))
        opened.sendall(client.bytes_to_send())
        draining = asyncio.get_running_loop().create_task(server.drain(allowed=10))
        connected = SocketClient(client, *await asyncio.open_connection(sock=opened))
        await connected.until_closed()
        connected.writer.close()
        await draining

    assert (StatusCode.OK, "") == client.replies[stream].status


async def test_clients_move_from_old_connections_without_losing_a_call(
    new_engine: Callable[[EngineLimits], Engine],
) -> None:
    """With an age of 50 ms an ordinary client makes its calls over several connections and notices nothing."""
    served = serving(connection=ConnectionLimits(max_age=0.05), new_engine=new_engine)
    async with listening(served, times=_QUICK) as server, _channel(server) as channel:
        method = unary_unary(channel, _METHOD)
        calls = 0
        async with asyncio.timeout(10):
            while served.figures.connections_accepted < 4:
                answers = await asyncio.gather(*(method(b"%d" % number) for number in range(10)))
                calls += len(answers)
                assert [b"%d" % number for number in range(10)] == answers

    assert calls >= 40


async def test_idle_connection_is_closed_in_order() -> None:
    """GOAWAY with the reason, twice, then the end."""
    served = serving(connection=ConnectionLimits(idle=0.05))
    async with listening(served, times=_QUICK) as server, dialled(server) as client:
        stream = client.h2.call(_HELLO)
        await client.until(lambda: client.h2.replies[stream].has_ended)
        await client.until_closed()

    assert b"max_idle" == client.h2.goaways[0][2]
    assert (stream, 0) == client.h2.goaways[-1][:2]


async def test_dead_client_is_found_by_a_ping(new_engine: Callable[[EngineLimits], Engine]) -> None:
    """It answers nothing: its call is cancelled, and the reason sent in case it lives."""
    gate = Gate()
    served = serving(
        gate,
        connection=ConnectionLimits(keepalive_interval=0.05, keepalive_timeout=0.05),
        new_engine=new_engine,
    )
    async with listening(served, times=_QUICK) as server, dialled(server) as client:
        client.h2.answers_pings = False
        client.h2.call(_HELLO)
        await client.until_closed()
        await eventually(lambda: gate.causes)

    assert ["ClientGone"] == gate.causes
    assert client.h2.pings  # another one for each sign of life that came late
    assert b"keepalive_timeout" == client.h2.goaways[-1][2]


async def test_live_client_answers_its_pings_and_stays() -> None:
    """grpcio does, by itself."""
    served = serving(connection=ConnectionLimits(keepalive_interval=0.03, keepalive_timeout=5.0))
    async with listening(served, times=_QUICK) as server, dialled(server) as client:
        await client.until(lambda: len(client.h2.pings) >= 3)
        stream = client.h2.call(_HELLO)
        await client.until(lambda: client.h2.replies[stream].has_ended)

    assert (0, "") == client.h2.replies[stream].status


async def test_connection_that_never_speaks_is_closed() -> None:
    """The handshake has its time."""
    served = serving(connection=ConnectionLimits(handshake=0.05))
    async with listening(served, times=_QUICK) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        async with asyncio.timeout(5):
            end = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert b"HTTP" not in end
    assert 1 == served.figures.protocol_errors["handshake_timeout"]


async def test_bug_in_one_connection_does_not_end_the_time_limits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The look at the clock goes on, and the log says what happened."""
    served = serving(connection=ConnectionLimits(handshake=0.05))

    class Broken:
        closed = asyncio.get_running_loop().create_future()
        tasks: frozenset[asyncio.Task[None]] = frozenset()

        def check_time(self, now: float) -> None:
            raise ZeroDivisionError

        def abort_calls(self, cause: object) -> None:
            pass

        def end(self) -> None:
            self.closed.set_result(None)

        def kill(self) -> None:
            pass

    async with listening(served, times=_QUICK) as server:
        broken = Broken()
        server.connections.add(broken)  # type: ignore[arg-type]  # a connection with a bug
        await eventually(lambda: caplog.records)
        server.connections.discard(broken)
        async with dialled(server) as client:
            client.h2.bytes_to_send()
            await client.until_closed()

    assert "ZeroDivisionError" in caplog.text
    assert 1 == served.figures.protocol_errors["handshake_timeout"]


async def test_drain_leaves_the_next_process_its_socket(tmp_path: Path) -> None:
    """A new bridge may take over the path while the old one still finishes its calls."""
    gate = Gate()
    path = tmp_path / "bridge.sock"
    address = Listener(UnixAddress(path))
    async with listening(serving(gate), address) as server, dialled(server, path=path) as client:
        stream = client.h2.call(_HELLO)
        client.flush()
        await eventually(lambda: gate.waiting)
        draining = asyncio.get_running_loop().create_task(server.drain(allowed=10))
        await eventually(lambda: not path.exists())
        with bind(address).sock:
            gate.open.set()
            await client.until(lambda: client.h2.replies[stream].has_ended)
            await client.until_closed()
            await draining

            assert path.exists()
    assert (0, "") == client.h2.replies[stream].status
