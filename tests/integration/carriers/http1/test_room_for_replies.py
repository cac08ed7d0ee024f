"""Replies that do not fit the process's buffers: they wait on their connections, and end if no room comes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.carriers.http1 import exchange
from bridge.carriers.http1.client import HttpClient
from bridge.carriers.http1.exchange import Response
from bridge.carriers.http1.pool import Pool
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.errors import BuffersFull, forget_frames
from bridge.rpc.url import Origin
from tests.support.stream_server import stream_server

_SIZE = 1 << 20
_HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


class _Server:
    """Answers every request with a megabyte; counts the bytes that its connections have taken."""

    def __init__(self, *, is_chunked: bool = False) -> None:
        self._is_chunked = is_chunked
        self.begun = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            self.begun += 1
            writer.write(self._answer())
            await writer.drain()

    def _answer(self) -> bytes:
        if self._is_chunked:
            return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
                _SIZE,
                bytes(_SIZE),
            )
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (_SIZE, bytes(_SIZE))


@asynccontextmanager
async def _pool(server: _Server) -> AsyncIterator[Pool]:
    async with stream_server(server.serve) as listening:
        client = HttpClient(environment={})
        try:
            yield client.pool(Origin("http", "127.0.0.1", listening.port))
        finally:
            await client.close()


async def _ask(pool: Pool, account: OpenAccount) -> Response:
    return await pool.exchange(_HEAD, b"", account, max_body=2 << 20)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_replies_beyond_the_buffers_wait_for_room(is_chunked: bool) -> None:
    """Ten replies of 1 MiB, room for one: each comes whole, and what is held exceeds the buffers by one of them and a
    read of each.
    """
    buffers = Buffers(3 << 20)
    most = 0

    async def call(pool: Pool) -> int:
        nonlocal most
        account = OpenAccount(buffers)
        try:
            reply = await _ask(pool, account)
            most = max(most, buffers.held)
            await asyncio.sleep(0)
            return len(reply.body)
        finally:
            account.close()

    async with _pool(_Server(is_chunked=is_chunked)) as pool:
        sizes = await asyncio.gather(*[call(pool) for _ in range(10)])

    assert [_SIZE] * 10 == sizes
    assert most <= (3 << 20) + 10 * 2 * (64 << 10) + 2 * _SIZE
    assert (0, False) == (buffers.held, buffers.is_awaited)


async def test_a_reply_that_waits_too_long_ends_its_call() -> None:
    """Naming the limit; nothing stays counted, and nobody waits."""
    buffers = Buffers(3 << 20, room_wait=0.05)
    filling, beyond, account = (OpenAccount(buffers) for _ in range(3))
    filling.hold(2 << 20)
    buffers.wait(beyond, 2 << 20, lambda: None)
    buffers.tell_freed()
    async with _pool(_Server()) as pool:
        with pytest.raises(BuffersFull, match=r"3145728 bytes \(buffers\)"):
            await _ask(pool, account)
    account.close()
    beyond.close()
    filling.let_go(1)

    assert ((2 << 20) - 1, False) == (buffers.held, buffers.is_awaited)


async def test_nothing_of_a_refused_reply_waits_for_a_collection() -> None:
    """Hundreds of them a second would be memory that nobody counts."""
    buffers = Buffers(3 << 20, room_wait=0.02)
    beyond = OpenAccount(buffers)
    buffers.wait(beyond, 3 << 20, lambda: None)
    buffers.tell_freed()
    gc.collect()
    gc.disable()
    try:
        async with _pool(_Server()) as pool:
            for _ in range(3):
                account = OpenAccount(buffers)
                try:
                    await _ask(pool, account)
                except BuffersFull as error:
                    forget_frames(error)
                account.close()
            left = [each for each in gc.get_objects() if isinstance(each, exchange.Gathering)]
    finally:
        gc.enable()

    assert [] == left


async def test_a_call_that_ends_while_its_reply_waits_holds_nothing() -> None:
    """Its place in the line is gone, too."""
    buffers = Buffers(3 << 20)
    filling, beyond, account = (OpenAccount(buffers) for _ in range(3))
    filling.hold(2 << 20)
    buffers.wait(beyond, 2 << 20, lambda: None)
    buffers.tell_freed()
    server = _Server()
    async with _pool(server) as pool:
        asking = asyncio.get_running_loop().create_task(_ask(pool, account))
        while not buffers.is_awaited:
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait([asking])
        account.close()
        beyond.close()
        filling.close()

    assert asking.cancelled()
    assert (0, 0, False) == (account.held, buffers.held, buffers.is_awaited)
