"""A server of asyncio's streams that leaves no connection open, whenever its tasks end.

asyncio makes a task for each connection that it accepts. A task that is cancelled before its first step never runs its
`finally`, so whoever closes the connection must not be that task alone.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class StreamServer:
    """Calls `serve` for each connection, and closes the connection afterwards."""

    def __init__(self, serve: Serve) -> None:
        self.address = ""
        """HOST:PORT or unix:PATH."""
        self.port = 0
        self.faults: list[Exception] = []
        """What `serve` raised, but for clients that went away."""
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._listening: asyncio.Server

    async def start(
        self,
        *,
        port: int = 0,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
        limit: int = 1 << 16,
    ) -> None:
        """Listen on a port of 127.0.0.1 (0: a free one), or on a Unix socket. `limit`: bytes that are read ahead."""
        if path is not None:
            self._listening = await asyncio.start_unix_server(self._accept, path, limit=limit)
            self.address = f"unix:{path}"
            return
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", port, ssl=tls, limit=limit)
        self.port = int(self._listening.sockets[0].getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many were accepted."""
        return len(self._writers)

    async def close(self) -> None:
        """Stop listening, end the tasks and close every connection."""
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        await self._listening.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        except Exception as error:  # noqa: BLE001 - raised again where the test sees it
            self.faults.append(error)
        finally:
            writer.close()


@asynccontextmanager
async def stream_server(
    serve: Serve,
    *,
    port: int = 0,
    path: Path | None = None,
    tls: ssl.SSLContext | None = None,
    limit: int = 1 << 16,
) -> AsyncIterator[StreamServer]:
    """A server that runs until the block ends, see StreamServer.start. Faults of `serve` are raised then."""
    server = StreamServer(serve)
    await server.start(port=port, path=path, tls=tls, limit=limit)
    try:
        yield server
    finally:
        await server.close()
    if server.faults:
        raise server.faults[0]
