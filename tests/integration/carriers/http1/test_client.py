"""The HTTP client against servers that answer well, badly and not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.connection import MAX_RESPONSE_HEAD
from bridge.carriers.http1.exchange import HIGH_WATER, Response
from bridge.carriers.http1.pool import Pool
from bridge.rpc.errors import (
    BadReply,
    ConnectionLost,
    Overloaded,
    ReplyTooLarge,
    RpcError,
    Unreachable,
)
from bridge.rpc.limits import PoolLimits
from bridge.rpc.url import Origin
from tests.support.upstream import Peer, always, answers, post, response, serving

MAX_BODY = 1 << 20


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(environment={})
    yield made
    await made.close()


async def ask(pool: Pool, body: bytes = b"", *, max_body: int = MAX_BODY) -> Response:
    async with asyncio.timeout(5):
        return await pool.exchange(post(body), body, max_body=max_body)


async def until(condition: object) -> None:
    """Let the loop turn until the condition holds."""
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


# -- responses ---------------------------------------------------------------------------------------------------------


async def test_request_and_response_travel_whole(client: HttpClient) -> None:
    """What is sent arrives, and status, fields and body come back; names of fields in lower case, repeated ones in
    order.
    """
    received = []

    async def script(peer: Peer) -> None:
        received.append(await peer.request())
        await peer.send(b"HTTP/1.1 201 Created\r\nX-One: a\r\nX-Two:\r\nx-one: b\r\nContent-Length: 5\r\n\r\nhello")

    async with serving(script) as upstream:
        answer = await ask(client.pool(upstream.origin), b"question")

    assert [b"question"] == [request.body for request in received]
    assert (201, b"hello") == (answer.status, answer.body)
    assert [
        (b"x-one", b"a"),
        (b"x-two", b""),
        (b"x-one", b"b"),
        (b"content-length", b"5"),
    ] == answer.fields
    assert ("a", "") == (answer.field(b"x-one"), answer.field(b"x-none"))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 5 << 20])
async def test_bodies_of_all_sizes_pass_both_ways(client: HttpClient, size: int) -> None:
    """A body arrives as it was sent, joined with its head or not, in one read or many."""

    async def echo(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(response(request.body))

    body = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    async with serving(echo) as upstream:
        answer = await ask(client.pool(upstream.origin), body, max_body=size)

    assert body == answer.body


async def test_body_may_come_in_parts(client: HttpClient) -> None:
    """A sequence of parts is sent as one body."""

    async def echo(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(response(request.body))

    async with serving(echo) as upstream:
        answer = await client.pool(upstream.origin).exchange(post(b"abcdef"), [b"ab", b"", b"cdef"], max_body=10)

    assert b"abcdef" == answer.body


WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 11\r\n\r\nhello world",
    "chunked": b"HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
    "chunked with trailers": b"HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    b"b\r\nhello world\r\n0\r\nx-late: 1\r\n\r\n",
    "after interim responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 11\r\n\r\nhello world",
}


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
async def test_any_cut_gives_the_same_response(client: HttpClient, form: str, cut: int) -> None:
    """Length, chunks and interim responses are read alike however the bytes are cut, and the connection is kept."""
    wire = WHOLE[form]
    parts = [wire[at : at + cut] for at in range(0, len(wire), cut)]

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.send(*parts)

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        first, second = await ask(pool), await ask(pool)

    assert (200, b"hello world", "1") == (first.status, first.body, first.field(b"x-a"))
    assert first == second
    assert 1 == upstream.connections


async def test_body_may_end_with_the_connection(client: HttpClient) -> None:
    """Without a length a body ends where the server closes."""
    async with serving(answers(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as upstream:
        answer = await ask(client.pool(upstream.origin))

    assert b"all of it" == answer.body


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_statuses_without_body_need_no_length(client: HttpClient, status: str) -> None:
    async with serving(always(f"HTTP/1.1 {status}\r\n\r\n".encode())) as upstream:
        pool = client.pool(upstream.origin)
        answer = await ask(pool)
        await ask(pool)

    assert (int(status[:3]), b"") == (answer.status, answer.body)
    assert 1 == upstream.connections


GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "endless length": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "bad field": b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nxxx",
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_a_bad_reply(client: HttpClient, kind: str) -> None:
    """What is not an HTTP/1.1 response ends the call and the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(GARBAGE[kind])
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        with pytest.raises(BadReply) as caught:
            await ask(pool)
        await until(lambda: pool.open_count == 0)

    assert caught.value.may_have_run


# -- bounds ------------------------------------------------------------------------------------------------------------

HEAD_BOMBS = {
    "one long field": [b"HTTP/1.1 200 OK\r\nx: ", *([b"a" * 16384] * 40)],
    "many fields": [b"HTTP/1.1 200 OK\r\n", *([b"x: a\r\n" * 4000] * 10)],
    "a long reason": [b"HTTP/1.1 200 ", *([b"a" * 16384] * 40)],
    "trailers": [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
        *([b"x: a\r\n" * 4000] * 10),
    ],
    "a chunk extension": [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;",
        *([b"a" * 16384] * 40),
    ],
    "interim responses": [b"HTTP/1.1 100 Continue\r\nx: a\r\n\r\n" * 500] * 20,
}


@pytest.mark.parametrize("kind", HEAD_BOMBS)
async def test_heads_without_end_are_cut(client: HttpClient, kind: str) -> None:
    """Whatever is not body is bounded, wherever it stands."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*HEAD_BOMBS[kind])
        await peer.closed()

    async with serving(script) as upstream:
        with pytest.raises(BadReply, match=f"too large a head: more than {MAX_RESPONSE_HEAD} bytes"):
            await ask(client.pool(upstream.origin))


async def test_declared_length_above_the_bound_fails_before_the_body(client: HttpClient) -> None:
    """The bound is checked against the head: the body is not waited for."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n")
        await peer.closed()

    async with serving(script) as upstream:
        with pytest.raises(ReplyTooLarge, match="101 bytes, the limit is 100"):
            await ask(client.pool(upstream.origin), max_body=100)


async def test_chunks_above_the_bound_fail_as_they_come(client: HttpClient) -> None:
    """A body without a declared length is cut where it passes the bound."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.send(*[b"32\r\n" + b"a" * 50 + b"\r\n"] * 3)
        await peer.closed()

    async with serving(script) as upstream:
        with pytest.raises(ReplyTooLarge, match="more than 100 bytes"):
            await ask(client.pool(upstream.origin), max_body=100)


# -- lost connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_connection_cut_in_a_response_is_lost(client: HttpClient, sent: bytes) -> None:
    """After the request was sent, nobody knows whether the function ran."""
    async with serving(answers(sent)) as upstream:
        with pytest.raises(ConnectionLost, match="may have run") as caught:
            await ask(client.pool(upstream.origin))

    assert caught.value.may_have_run
    assert not caught.value.is_transient


async def test_idle_connection_that_closed_before_is_not_used(client: HttpClient) -> None:
    """A connection that the server closed while it was idle costs no call anything."""
    async with serving(answers(response(b"one"))) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        await until(lambda: pool.open_count == 0)
        answer = await ask(pool)

    assert b"one" == answer.body
    assert 2 == upstream.connections


async def test_unread_end_of_an_idle_connection_is_seen_before_use() -> None:
    """A close that has arrived, but that the loop has not read yet, is found by looking at the socket."""
    client = HttpClient(environment={}, limits=PoolLimits(looked_at_after=0.0))
    closing = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(b"one"))
        await closing.wait()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        (connection,) = pool._idle
        connection._transport.pause_reading()  # the loop stays blind
        closing.set()
        await until(connection.has_news)
        answer = await ask(pool)
        await client.close()

    assert b"one" == answer.body
    assert 2 == upstream.connections


async def test_reused_connection_closed_after_the_request_is_lost(client: HttpClient) -> None:
    """The race of every keep-alive connection: the request left, so it is not sent twice."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        await peer.send(response(b"one"))
        await peer.request()
        requests += 1

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        with pytest.raises(ConnectionLost):
            await ask(pool)

    assert (1, 1) == (requests, upstream.connections)


async def test_unasked_bytes_end_an_idle_connection(client: HttpClient) -> None:
    """What a server sends while nobody asked must not become the next answer."""
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(b"one"))
        await answered.wait()
        await peer.send(response(b"poison", status="408 Request Timeout"))
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        answered.set()
        await until(lambda: pool.open_count == 0)
        answer = await ask(pool)

    assert b"one" == answer.body
    assert 2 == upstream.connections


@pytest.mark.parametrize("more", [response(), response(b"poison"), b"\0garbage"])
async def test_bytes_after_a_response_end_the_connection(client: HttpClient, more: bytes) -> None:
    """The response is good; what follows in the same read makes the connection unfit for another."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(b"one") + more)
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        first = await ask(pool)
        await until(lambda: pool.open_count == 0)
        second = await ask(pool)

    assert (b"one", b"one") == (first.body, second.body)
    assert 2 == upstream.connections


@pytest.mark.parametrize(
    "closing",
    [response(b"one", connection="close"), b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\none"],
)
async def test_connection_that_the_server_will_close_is_not_kept(client: HttpClient, closing: bytes) -> None:
    """`connection: close` and HTTP/1.0 end a connection after its response."""
    async with serving(always(closing)) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        await ask(pool)

    assert 2 == upstream.connections


async def test_answer_before_the_request_is_read_counts(client: HttpClient) -> None:
    """A server may refuse a body that it has not read; the connection holds the rest of it and is not used again."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(response(b"too large", status="413 Content Too Large"))
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        answer = await ask(pool, b"a" * (32 << 20))
        await until(lambda: pool.open_count == 0)

    assert (413, b"too large") == (answer.status, answer.body)


# -- cancelling --------------------------------------------------------------------------------------------------------


async def test_cancelling_closes_the_connection(client: HttpClient) -> None:
    """The server learns at once that nobody waits."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()
        gone.set()

    async with serving(script) as upstream, asyncio.timeout(5):
        pool = client.pool(upstream.origin)
        call = asyncio.get_running_loop().create_task(ask(pool))
        await asked.wait()
        call.cancel()
        await gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: pool.open_count == 0)

    assert 0 == pool.idle_count


async def test_cancelling_a_caller_that_has_its_answer_spares_the_connection(
    client: HttpClient,
) -> None:
    """An answer that came in the same turn as the cancellation has freed the connection already."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(b"one"))
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        (connection,) = pool._idle
        call = asyncio.get_running_loop().create_task(pool.exchange(post(), max_body=9))
        await asyncio.sleep(0)
        wire = response(b"two")
        connection._buffer[: len(wire)] = wire
        connection.buffer_updated(len(wire))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert connection.is_usable()


async def test_handshake_outlives_the_caller_that_began_it(client: HttpClient) -> None:
    """Calls with deadlines shorter than a handshake would otherwise never get a connection."""
    async with serving(always(response(b"one"))) as upstream:
        pool = client.pool(upstream.origin)
        call = asyncio.get_running_loop().create_task(ask(pool))
        await asyncio.sleep(0)
        call.cancel()
        await until(lambda: pool.idle_count == 1)
        await ask(pool)

    assert 1 == upstream.connections


# -- the bound ---------------------------------------------------------------------------------------------------------


async def test_callers_beyond_the_bound_are_served_in_turn() -> None:
    """With one connection, calls are answered one after another in the order they came."""
    client = HttpClient(environment={}, limits=PoolLimits(open_connections=1))
    order = []

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            order.append(request.body)
            await peer.send(response(request.body))

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        bodies = [b"%d" % number for number in range(20)]
        got = await asyncio.gather(*(ask(pool, body) for body in bodies))
    await client.close()

    assert bodies == order
    assert bodies == [answer.body for answer in got]
    assert 1 == upstream.connections


async def test_cancelled_waiter_leaves_the_queue() -> None:
    """Who gives up waiting is passed over, and the connection goes to the next."""
    client = HttpClient(environment={}, limits=PoolLimits(open_connections=1))
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await go_on.wait()
            await peer.send(response(request.body))

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        loop = asyncio.get_running_loop()
        first, second, third = (loop.create_task(ask(pool, body)) for body in (b"1", b"2", b"3"))
        await until(lambda: pool.waiting_count == 2)
        second.cancel()
        await until(lambda: pool.waiting_count == 1)
        go_on.set()
        answers_got = await first, await third
    await client.close()

    assert [b"1", b"3"] == [answer.body for answer in answers_got]
    assert second.cancelled()


async def test_connection_given_to_a_caller_that_gave_up_is_passed_on() -> None:
    """A waiter cancelled in the turn in which it got a connection gives it back."""
    client = HttpClient(environment={}, limits=PoolLimits(open_connections=1))
    async with serving(always(response(b"one"))) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        connection = pool._take()
        assert connection is not None
        call = asyncio.get_running_loop().create_task(ask(pool))
        await asyncio.sleep(0)
        pool.released(connection)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert [connection] == list(pool._idle)
    await client.close()


async def test_queue_is_bounded() -> None:
    """More callers than may wait are refused, as a call that did not run."""
    client = HttpClient(environment={}, limits=PoolLimits(open_connections=1, waiting=1))

    async def silent(peer: Peer) -> None:
        await peer.closed()

    async with serving(silent) as upstream:
        pool = client.pool(upstream.origin)
        loop = asyncio.get_running_loop()
        served = loop.create_task(ask(pool))
        await until(lambda: pool.open_count == 1 and pool.waiting_count == 0)
        waiting = loop.create_task(ask(pool))
        await until(lambda: pool.waiting_count == 1)
        with pytest.raises(Overloaded) as caught:
            await ask(pool)
        served.cancel()
        waiting.cancel()
        await asyncio.gather(served, waiting, return_exceptions=True)
    await client.close()

    assert ("connections", False) == (caught.value.reason, caught.value.may_have_run)


async def test_idle_connections_are_closed_after_a_while() -> None:
    client = HttpClient(environment={}, limits=PoolLimits(idle_timeout=0.05))
    async with serving(always(response(b"one"))) as upstream:
        pool = client.pool(upstream.origin)
        await ask(pool)
        await until(lambda: pool.open_count == 0)
    await client.close()

    assert 0 == pool.idle_count


async def test_no_more_idle_connections_are_kept_than_allowed() -> None:
    client = HttpClient(environment={}, limits=PoolLimits(idle_connections=2))
    all_here = asyncio.Barrier(5)

    async def script(peer: Peer) -> None:
        await peer.request()
        await all_here.wait()
        await peer.send(response(b"one"))
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        await asyncio.gather(*(ask(pool) for _ in range(5)))
        await until(lambda: pool.open_count == 2)

        assert 2 == pool.idle_count
    await client.close()


async def test_waves_of_calls_do_not_open_a_connection_each() -> None:
    """What is more than may stay idle is kept for a moment: the next wave needs it, and a TLS handshake a call would be
    dear.
    """
    client = HttpClient(environment={}, limits=PoolLimits(idle_connections=1))
    accepted: list[Peer] = []
    all_here = asyncio.Barrier(5)

    async def script(peer: Peer) -> None:
        accepted.append(peer)
        for _ in range(3):
            await peer.request()
            await all_here.wait()
            await peer.send(response(b"one"))
        await peer.closed()

    async with serving(script) as upstream:
        pool = client.pool(upstream.origin)
        for _ in range(3):
            await asyncio.gather(*(ask(pool) for _ in range(5)))
        await until(lambda: pool.open_count == 1)
    await client.close()

    assert 5 == len(accepted)


async def test_closing_the_client_ends_every_call() -> None:
    """A call under way may have run; one that waits for a connection has not been sent."""
    client = HttpClient(environment={}, limits=PoolLimits(open_connections=1))

    async def silent(peer: Peer) -> None:
        await peer.closed()

    async with serving(silent) as upstream:
        pool = client.pool(upstream.origin)
        loop = asyncio.get_running_loop()
        sent = loop.create_task(ask(pool))
        await until(lambda: pool.open_count == 1 and pool.waiting_count == 0)
        waiting = loop.create_task(ask(pool))
        await until(lambda: pool.waiting_count == 1)
        await client.close()
        ends = await asyncio.gather(sent, waiting, ask(pool), return_exceptions=True)

    assert ["ConnectionLost", "Draining", "Draining"] == [type(end).__name__ for end in ends]
    assert 0 == pool.open_count


async def test_nobody_listening_is_unreachable(client: HttpClient) -> None:
    """A refused connection says where to, and that nothing ran."""
    async with serving(always(b"")) as upstream:
        pass
    with pytest.raises(Unreachable, match="ECONNREFUSED") as caught:
        await ask(client.pool(upstream.origin))

    assert caught.value.is_transient
    assert not caught.value.may_have_run


async def test_every_waiting_caller_learns_that_nobody_listens() -> None:
    """Callers beyond the bound are refused too, each by an attempt of its own."""
    client = HttpClient(environment={}, limits=PoolLimits(open_connections=2))
    async with serving(always(b"")) as upstream:
        pass
    pool = client.pool(upstream.origin)
    ends = await asyncio.gather(*(ask(pool) for _ in range(7)), return_exceptions=True)
    await client.close()

    assert [Unreachable] * 7 == [type(end) for end in ends]


async def test_silent_handshake_is_given_up() -> None:
    """A server that accepts and then says nothing to a TLS hello is unreachable after the connect timeout."""
    client = HttpClient(environment={}, connect_timeout=0.1)

    async def silent(peer: Peer) -> None:
        await peer.closed()

    async with serving(silent) as upstream:
        secure = Origin("https", "localhost", upstream.origin.port)
        with pytest.raises(Unreachable, match=r"within 0\.1 s"):
            await ask(client.pool(secure))
    await client.close()


async def test_connect_failures_do_not_leak_places_in_the_pool(client: HttpClient) -> None:
    """After failed dials the pool still opens connections up to its bound."""
    async with serving(always(b"")) as gone:
        pass
    pool = client.pool(gone.origin)
    for _ in range(3):
        with pytest.raises(RpcError):
            await ask(pool)

    assert (0, 0, 0) == (pool.open_count, pool.waiting_count, len(pool._dials))


# -- streaming ---------------------------------------------------------------------------------------------------------


async def test_streamed_response_gives_parts_as_they_come(client: HttpClient) -> None:
    """The head is there before the body, each part before the next is sent, and the connection is kept."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx-a: 1\r\ntransfer-encoding: chunked\r\n\r\n")
        await go_on.wait()
        go_on.clear()
        await peer.send(b"3\r\none\r\n")
        await go_on.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.request()
        await peer.send(response(b"again"))

    async with serving(script) as upstream, asyncio.timeout(5):
        pool = client.pool(upstream.origin)
        got = []
        async with await pool.open(post()) as streamed:
            got.append(f"{streamed.status} {streamed.field(b'x-a')}")
            go_on.set()
            async for part in streamed:
                got.append(part.decode())
                go_on.set()
        again = await ask(pool)

    assert ["200 1", "one", "two"] == got
    assert b"again" == again.body
    assert 1 == upstream.connections


async def test_slow_reader_slows_the_server(client: HttpClient) -> None:
    """What is not read is not received: memory stays near the high water mark, and nothing is lost."""
    total, peers = 32 << 20, []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        await peer.send(b"a" * total)
        await peer.closed()

    async with (
        serving(script) as upstream,
        asyncio.timeout(10),
        await client.pool(upstream.origin).open(post()) as streamed,
    ):
        await until(lambda: streamed._unread > HIGH_WATER)
        for _ in range(20):
            await asyncio.sleep(0)
        held = streamed._unread
        backed_up = peers[0].is_backed_up()
        received = 0
        async for part in streamed:
            received += len(part)

    assert held < 3 * HIGH_WATER
    assert backed_up
    assert total == received


async def test_leaving_a_streamed_response_early_closes_the_connection(client: HttpClient) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfirst")
        await peer.closed()
        gone.set()

    async with serving(script) as upstream, asyncio.timeout(5):
        pool = client.pool(upstream.origin)
        async with await pool.open(post()) as streamed:
            first = await anext(aiter(streamed))
        await gone.wait()
        await until(lambda: pool.open_count == 0)
        with pytest.raises(BadReply, match="closed before its end"):
            await anext(streamed)

    assert b"first" == first


async def test_streamed_response_that_is_cut_ends_in_an_error(client: HttpClient) -> None:
    """What came is given first; then the loss is raised, not the end."""
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfirst"
    async with (
        serving(answers(cut)) as upstream,
        asyncio.timeout(5),
        await client.pool(upstream.origin).open(post()) as streamed,
    ):
        first = await anext(streamed)
        with pytest.raises(ConnectionLost):
            await anext(streamed)

    assert b"first" == first


async def test_cancelling_open_closes_the_connection(client: HttpClient) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()
        gone.set()

    async with serving(script) as upstream, asyncio.timeout(5):
        pool = client.pool(upstream.origin)
        call = asyncio.get_running_loop().create_task(pool.open(post()))
        await asked.wait()
        call.cancel()
        await gone.wait()
        await until(lambda: pool.open_count == 0)

    assert call.cancelled()
