"""A server on a real socket, and an H2Client at the other end of one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.config.schema import Listener
from bridge.rpc.address import TcpAddress
from bridge.rpc.limits import MaxConnections
from bridge.server.connection import ServerContext
from bridge.server.server import Server, ServerTimes, bind
from tests.support.h2_client import H2Client

LOCALHOST = Listener(TcpAddress("127.0.0.1", 0))
_PATIENCE = 10.0
"""Seconds after which a test that waits for something has failed."""


@asynccontextmanager
async def listening(
    served: ServerContext,
    address: Listener = LOCALHOST,
    max_connections: MaxConnections | None = None,
    times: ServerTimes | None = None,
) -> AsyncIterator[Server]:
    server = Server(served, [bind(address)], max_connections, times)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def port_of(server: Server) -> int:
    return int(server.addresses[0].rpartition(":")[2])


class SocketClient:
    """Moves bytes between an H2Client and a socket while somebody waits in `until`."""

    def __init__(self, client: H2Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = client
        self.writer = writer
        self.is_closed = False
        """Whether the server has closed the connection."""
        self._reader = reader

    async def until(self, condition: Callable[[], object]) -> None:
        """Send what is queued and read until the condition holds."""
        async with asyncio.timeout(_PATIENCE):
            self.flush()
            while not condition() and not self.is_closed:
                await self._read()
                self.flush()
        assert condition(), "the server closed the connection first"

    async def until_closed(self) -> None:
        async with asyncio.timeout(_PATIENCE):
            self.flush()
            while not self.is_closed:
                await self._read()
                self.flush()

    def flush(self) -> None:
        data = self.h2.bytes_to_send()
        if data and not self.is_closed:
            self.writer.write(data)

    async def _read(self) -> None:
        try:
            data = await self._reader.read(1 << 16)
        except ConnectionError:
            data = b""
        self.is_closed = not data
        self.h2.receive(data)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass


@asynccontextmanager
async def dialled(
    server: Server,
    client: H2Client | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    path: Path | None = None,
    read_buffer: int = 1 << 16,
) -> AsyncIterator[SocketClient]:
    """A connection to the server's only listener. `read_buffer`: bytes taken before the client stops reading by
    itself.
    """
    if path is not None:
        reader, writer = await asyncio.open_unix_connection(path)
    else:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            port_of(server),
            ssl=tls,
            server_hostname=None if tls is None else "localhost",
            limit=read_buffer,
        )
    socket_client = SocketClient(client or H2Client(), reader, writer)
    try:
        yield socket_client
    finally:
        await socket_client.close()


async def eventually(condition: Callable[[], object]) -> None:
    """Return when the condition holds; for what the other side does in its own time."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
