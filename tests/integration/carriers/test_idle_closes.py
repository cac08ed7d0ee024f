"""Servers that close idle connections at the worst moment: no call is lost that was provably not read, none is sent
twice.

The servers run in the test's own loop. So they can look whether a request has arrived, and close in the same step.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from bridge.carriers.http1 import idle_times
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.pool import Pool
from bridge.rpc.errors import ConnectionLost, RpcError
from bridge.rpc.limits import PoolLimits
from bridge.rpc.url import Origin
from tests.support.tls import Authority
from tests.support.upstream import always, post, response, serving

Close = Callable[[socket.socket], None]


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={}, connect_timeout=5)
    yield made
    await made.close()


@pytest.fixture
async def blind() -> AsyncIterator[HttpClient]:
    """Does not look at connections before use, however slow the machine is: it meets each close in the middle of a
    request.
    """
    made = HttpClient(environment={}, limits=PoolLimits(looked_at_after=1000.0), connect_timeout=5)
    yield made
    await made.close()


class Link:
    """The server's end of one connection, with TLS or without."""

    def __init__(self, opened: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.socket = opened
        self.has_served = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if tls is None else tls.wrap_bio(self._in, self._out, server_side=True)

    def read(self) -> bytes:
        """What has come of requests. Raises OSError."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionResetError
        if self._tls is None:
            return part
        self._in.write(part)
        plain = b""
        try:
            self._tls.do_handshake()
            while piece := self._tls.read(65536):
                plain += piece
        except ssl.SSLWantReadError:
            pass
        self._flush()
        return plain

    def write(self, data: bytes) -> None:
        if self._tls is None:
            self.socket.sendall(data)
            return
        self._tls.write(data)
        self._flush()

    def close(self) -> None:
        """In good order: TLS says goodbye first."""
        if self._tls is not None:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self.socket.close()

    def _flush(self) -> None:
        if self._out.pending:
            self.socket.sendall(self._out.read())


class IdleServer:
    """Answers requests, which end in `!`, and closes connections when it is told. `executed` counts requests by their
    body.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._tls = tls
        self._loop.add_reader(self._listener, self._accept)
        self._links: dict[Link, bytes] = {}
        """Open connections, and what has come of the next request on each."""
        self.executed: Counter[bytes] = Counter()
        self.connections = 0
        port = self._listener.getsockname()[1]
        self.origin = Origin("http", "127.0.0.1", port) if tls is None else Origin("https", "localhost", port)

    def _accept(self) -> None:
        opened, _ = self._listener.accept()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        link = Link(opened, self._tls)
        self._links[link] = b""
        self._loop.add_reader(opened, self._read, link)

    def _read(self, link: Link) -> None:
        try:
            self._links[link] += link.read()
            _, _, body = self._links[link].partition(b"\r\n\r\n")
            if body.endswith(b"!"):
                self._links[link] = b""
                self.executed[body] += 1
                link.has_served = True
                link.write(response(b"done"))
        except OSError:
            self._drop(link)

    def _drop(self, link: Link) -> None:
        self._loop.remove_reader(link.socket)
        self._links.pop(link)
        with suppress(OSError):
            link.close()

    def close_idle(self) -> int:
        """Close each connection that has served, and on which no byte of another request has arrived."""
        closed = 0
        for link, begun in list(self._links.items()):
            if begun or not link.has_served:
                continue
            try:
                link.socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                self._drop(link)
                closed += 1
        return closed

    def stop(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for link in list(self._links):
            self._drop(link)


@asynccontextmanager
async def idle_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[IdleServer]:
    server = IdleServer(tls)
    try:
        yield server
    finally:
        server.stop()


async def ask(pool: Pool, body: bytes, *, streamed: bool = False) -> bytes:
    if not streamed:
        return (await pool.exchange(post(body), body, max_body=1000)).body
    async with await pool.open(post(body), body) as answer:
        return (await answer.gather(1000)).body


@pytest.mark.parametrize("streamed", [False, True], ids=["gathered", "streamed"])
@pytest.mark.parametrize("size", [1, 3000, 200_000])
async def test_a_close_just_before_the_request_costs_no_call(blind: HttpClient, streamed: bool, size: int) -> None:
    """The server closes, and the request is written before the loop has read of it: 100 times, on reused
    connections.
    """
    async with idle_server() as server:
        pool = blind.pool(server.origin)
        for number in range(100):
            body = (b"%d" % number) * size + b"!"
            await ask(pool, b"first %d!" % number)
            assert 1 == server.close_idle()
            assert b"done" == await ask(pool, body, streamed=streamed)
            assert 1 == server.executed[body]

    assert {1} == set(server.executed.values())


async def test_no_call_is_lost_and_none_runs_twice(blind: HttpClient) -> None:
    """600 calls by 6 callers at random intervals, while the server closes all that is idle every few turns of the loop.
    Turns and not milliseconds: on a busy machine it would else close before each call, time after time.
    """
    rng = random.Random(7)
    lost: list[RpcError] = []

    async def call(pool: Pool, caller: int) -> None:
        for number in range(100):
            await asyncio.sleep(rng.choice((0, 0, 0.001, 0.004)))
            try:
                await ask(pool, b"%d-%d!" % (caller, number), streamed=bool(number % 2))
            except RpcError as error:
                lost.append(error)

    async def close_again_and_again(server: IdleServer) -> None:
        while True:
            for _ in range(10):
                await asyncio.sleep(0)
            server.close_idle()

    async with idle_server() as server:
        pool = blind.pool(server.origin)
        closing = asyncio.get_running_loop().create_task(close_again_and_again(server))
        await asyncio.gather(*[call(pool, caller) for caller in range(6)])
        closing.cancel()

    assert [] == lost
    assert 600 == server.executed.total()
    assert {1} == set(server.executed.values())
    assert server.connections > 20


def reset(opened: socket.socket) -> None:
    """Close with a reset, as a machine does that has forgotten the connection."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


class ReadAndGone:
    """A server that reads the second request of a connection, executes it, and ends the connection without an
    answer.
    """

    def __init__(self, close: Close) -> None:
        self.executed = 0
        self._close = close

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        opened, _ = await loop.sock_accept(listener)
        await loop.sock_recv(opened, 65536)
        await loop.sock_sendall(opened, response(b"one"))
        await loop.sock_recv(opened, 65536)
        self.executed += 1
        self._close(opened)
        if opened.fileno() >= 0:
            await loop.sock_recv(opened, 1)  # until the client has closed its end
        opened.close()


@pytest.mark.parametrize("streamed", [False, True], ids=["gathered", "streamed"])
@pytest.mark.parametrize(
    "close", [socket.socket.close, reset, lambda opened: opened.shutdown(socket.SHUT_WR)], ids=["fin", "rst", "half"]
)
async def test_what_was_read_is_never_sent_again(blind: HttpClient, close: Close, streamed: bool) -> None:
    """However the connection ends, and although not a byte of an answer came."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server = ReadAndGone(close)
        serving = asyncio.get_running_loop().create_task(server.serve(listener))
        pool = blind.pool(Origin("http", "127.0.0.1", listener.getsockname()[1]))
        await ask(pool, b"first!")
        with pytest.raises(ConnectionLost, match="may have run") as caught:
            await ask(pool, b"second!", streamed=streamed)
        await serving

    assert 1 == server.executed
    assert caught.value.may_have_run


async def test_a_reset_proves_nothing(blind: HttpClient) -> None:
    """The request arrived and nobody read it, but the client cannot know: it is not sent again."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        pool = blind.pool(Origin("http", "127.0.0.1", listener.getsockname()[1]))
        first = loop.create_task(ask(pool, b"first!"))
        opened, _ = await loop.sock_accept(listener)
        await loop.sock_recv(opened, 65536)
        await loop.sock_sendall(opened, response(b"one"))
        await first
        second = loop.create_task(ask(pool, b"second!"))
        while True:
            await asyncio.sleep(0)
            try:
                opened.recv(1, socket.MSG_PEEK)
                break
            except BlockingIOError:
                continue
        opened.close()  # with the request unread
        with pytest.raises(ConnectionLost):
            await second


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("idle-tls"))


@pytest.mark.parametrize("size", [1, 3000, 20_000])
async def test_a_close_just_before_a_request_in_tls(blind: HttpClient, authority: Authority, size: int) -> None:
    """TLS's goodbye counts as the close."""
    async with idle_server(authority.server("localhost")) as server:
        pool = blind.pool(server.origin, authority.client())
        for number in range(50):
            body = (b"%d" % number) * size + b"!"
            await ask(pool, b"first %d!" % number)
            assert 1 == server.close_idle()
            assert b"done" == await ask(pool, body, streamed=bool(number % 2))

    assert {1} == set(server.executed.values())
    assert 100 == server.executed.total()


async def test_a_large_request_in_tls_is_not_sent_again(blind: HttpClient, authority: Authority) -> None:
    """Its records cannot be told from what TLS adds to them: nothing is proved."""
    async with idle_server(authority.server("localhost")) as server:
        pool = blind.pool(server.origin, authority.client())
        await ask(pool, b"first!")
        assert 1 == server.close_idle()
        with pytest.raises(ConnectionLost):
            await ask(pool, bytes(200_000) + b"!")

    assert 1 == server.executed.total()


# -- how long connections are kept -------------------------------------------------------------------------------------


async def test_a_server_that_says_how_long_it_keeps_connections_is_believed(
    client: HttpClient,
) -> None:
    """`Keep-Alive: timeout=5`, as Node's server sends it: used for 4 seconds."""
    async with serving(always(response(b"x", Keep_Alive="timeout=5, max=100"))) as upstream:
        pool = client.pool(upstream.origin)
        before = pool._idle_times.limit
        await ask(pool, b"x!")

    assert (20.0, 4.0) == (before, pool._idle_times.limit)


async def test_a_server_that_closes_early_is_learned_from_for_a_while() -> None:
    """Connections are then used for a shorter time than it keeps them, until that is forgotten."""
    client = HttpClient(environment={}, limits=PoolLimits(remembered=0.3), connect_timeout=5)
    async with idle_server() as server:
        pool = client.pool(server.origin)
        await ask(pool, b"first!")
        await asyncio.sleep(0.1)
        server.close_idle()
        async with asyncio.timeout(5):
            while pool.open_count:
                await asyncio.sleep(0.001)
        learned = pool._idle_times.limit
        await ask(pool, b"second!")
        await asyncio.sleep(0.15)
        await ask(pool, b"third!")  # the second one's connection was idle for too long
        connections = server.connections
        async with asyncio.timeout(5):
            while pool._idle_times.limit != 20.0:
                await asyncio.sleep(0.01)
    await client.close()

    assert idle_times.SHORTEST_IDLE <= learned < 0.15
    assert 3 == connections
