"""The tests' own server leaves nothing open."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.stream_server import StreamServer, stream_server


async def test_a_connection_whose_task_never_began_is_closed() -> None:
    """A task that is cancelled before its first step runs no `finally`."""
    begun: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.append(writer)

    server = StreamServer(serve)
    await server.start()
    async with stream_server(serve) as other:
        reader, writer = await asyncio.open_connection("127.0.0.1", other.port)
        server._accept(reader, writer)  # as asyncio calls it
        await server.close()

        assert writer not in begun
        assert writer.is_closing()


async def test_what_a_server_raises_fails_its_test() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ValueError("odd")

    async def use() -> bytes:
        async with stream_server(serve) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.close()
            return await reader.read()

    with pytest.raises(ValueError, match="odd"):
        await use()
