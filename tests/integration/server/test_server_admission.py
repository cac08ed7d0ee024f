"""How many connections a server takes, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from bridge.config.schema import Listener, TlsFiles
from bridge.http2.native import NativeEngine
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.limits import MaxConnections
from tests.support.listening import LOCALHOST, SocketClient, dialled, eventually, listening, port_of
from tests.support.serving import echo, serving, wait_for_ever

SETTLED = "has_server_settings"


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Listener, ssl.SSLContext]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(files.cert)
    certificate.private_key_pem.write_to_path(files.key)
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    context.set_alpn_protocols(["h2"])
    return Listener(TcpAddress("127.0.0.1", 0), tls=files), context


async def settled(client: SocketClient) -> SocketClient:
    await client.until(lambda: client.h2.has_server_settings)
    return client


async def call(client: SocketClient) -> bytes:
    stream = client.h2.call(b"\0\0\0\0\2hi")
    await client.until(lambda: client.h2.replies[stream].has_ended)
    return bytes(client.h2.replies[stream].data)


@pytest.mark.parametrize("is_secure", [False, True])
async def test_at_the_total_an_idle_connection_makes_room(
    is_secure: bool, tls: tuple[Listener, ssl.SSLContext]
) -> None:
    """The oldest idle one of the peer with the most is told to go, the new one is served, and the figures say so."""
    address, context = tls if is_secure else (LOCALHOST, None)
    served = serving(echo, new_engine=NativeEngine)
    async with AsyncExitStack() as opened:
        server = await opened.enter_async_context(listening(served, address, MaxConnections(3)))
        clients = [await settled(await opened.enter_async_context(dialled(server, tls=context))) for _ in range(4)]
        answer = await call(clients[3])
        await clients[0].until_closed()
        await eventually(lambda: served.figures.connections_open == 3)
        others = [await call(client) for client in clients[1:3]]

    assert [b"\0\0\0\0\2hi"] * 3 == [answer, *others]
    assert {"idle": 1} == served.figures.connections_refused


async def test_without_an_idle_connection_the_new_one_is_refused() -> None:
    """The calls in flight go on; when one connection has gone there is room again."""
    served = serving(wait_for_ever, new_engine=NativeEngine)
    async with (
        listening(served, max_connections=MaxConnections(2)) as server,
        dialled(server) as first,
        dialled(server) as second,
    ):
        for client in (first, second):
            client.h2.call(b"\0\0\0\0\0")
            await settled(client)
        await eventually(lambda: served.figures.streams_open == 2)
        for _ in range(20):
            async with dialled(server) as refused:
                await refused.until_closed()
        assert (2, 2) == (served.figures.streams_open, served.figures.connections_open)
        assert {"total": 20} == served.figures.connections_refused
        await first.close()
        await eventually(lambda: len(server.admission) == 1)
        async with dialled(server) as third:
            await settled(third)


async def test_one_peer_has_so_many_and_no_more() -> None:
    served = serving(echo, new_engine=NativeEngine)
    limits = MaxConnections(100, per_peer=2)
    async with (
        listening(served, max_connections=limits) as server,
        dialled(server) as first,
        dialled(server) as second,
        dialled(server) as third,
    ):
        await third.until_closed()
        answers = [await call(await settled(client)) for client in (first, second)]

    assert [b"\0\0\0\0\2hi"] * 2 == answers
    assert {"per_peer": 1} == served.figures.connections_refused


async def test_sockets_that_never_begin_tls_count(
    tls: tuple[Listener, ssl.SSLContext],
) -> None:
    """They make room for who does; none of them is a connection yet."""
    address, context = tls
    served = serving(echo, new_engine=NativeEngine)
    async with listening(served, address, MaxConnections(3)) as server:
        silent = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(3)]
        await eventually(lambda: len(server.admission) == 3)
        async with dialled(server, tls=context) as client:
            answer = await call(await settled(client))
            assert b"" == await silent[0][0].read()
        for _, writer in silent:
            writer.close()
        await eventually(lambda: len(server.admission) == 0)

    assert b"\0\0\0\0\2hi" == answer
    assert {"idle": 1} == served.figures.connections_refused


async def test_failed_handshakes_leave_nothing(tls: tuple[Listener, ssl.SSLContext]) -> None:
    """Clients that hang up, speak no TLS, or trust another authority."""
    address, _ = tls
    served = serving(echo, new_engine=NativeEngine)
    async with listening(served, address) as server:
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"):
            _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            writer.write(said)
            await writer.drain()
            writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                "127.0.0.1", port_of(server), ssl=ssl.create_default_context(), server_hostname="localhost"
            )
        await eventually(lambda: len(server.admission) == 0)

    assert not server.arriving
    assert 0 == served.figures.connections_open


async def test_unix_sockets_are_one_peer(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sock"
    served = serving(echo, new_engine=NativeEngine)
    limits = MaxConnections(100, per_peer=1)
    async with (
        listening(served, Listener(UnixAddress(path)), limits) as server,
        dialled(server, path=path) as first,
        dialled(server, path=path) as second,
    ):
        await second.until_closed()
        await settled(first)

    assert {"per_peer": 1} == served.figures.connections_refused


async def test_a_close_ends_handshakes_under_way(
    tls: tuple[Listener, ssl.SSLContext],
) -> None:
    address, _ = tls
    async with listening(serving(echo), address) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        await eventually(lambda: len(server.admission) == 1)
        await server.close()

        assert b"" == await reader.read()
        writer.close()
        await eventually(lambda: len(server.admission) == 0)


async def test_a_flood_of_connections_leaves_the_count_true() -> None:
    """Hundreds at once, most of which hang up at some moment: who stays is counted, and nobody else."""
    served = serving(echo, new_engine=NativeEngine)
    async with listening(served, max_connections=MaxConnections(50)) as server:
        place = ("127.0.0.1", port_of(server))
        for _ in range(10):
            flood = [socket.create_connection(place) for _ in range(100)]
            await asyncio.sleep(0)
            for each in flood:
                each.close()
        async with dialled(server) as client:
            assert b"\0\0\0\0\2hi" == await call(await settled(client))
            await eventually(lambda: len(server.admission) == 1)
            assert 1 == served.figures.connections_open
