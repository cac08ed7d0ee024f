"""HTTP/1.1 servers that answer by script: whole, cut, late, wrong. A script is what happens on one connection.

async def script(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nhi")

async with serving(script) as upstream: ...
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.rpc.url import Origin
from tests.support.stream_server import StreamServer, stream_server


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it arrived."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.partition(b"\r\n")[0].decode()

    @property
    def fields(self) -> dict[str, str]:
        """By name in lower case."""
        lines = self.head.decode().split("\r\n")[1:-2]
        pairs = (line.partition(":") for line in lines)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    async def request(self) -> ReceivedRequest:
        """The next request. Raises IncompleteReadError if the client closes instead."""
        head = await self.head()
        length = int(ReceivedRequest(head, b"").fields.get("content-length", "0"))
        return ReceivedRequest(head, await self._reader.readexactly(length))

    async def send(self, *parts: bytes) -> None:
        """Each part in a segment of its own, as far as the loop allows."""
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def closed(self) -> None:
        """Return when the client has closed its end."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes both ways between the client and another connection until one ends."""

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while received := await source.read(65536):
                sink.write(received)
                await sink.drain()

        loop = asyncio.get_running_loop()
        pumps = {
            loop.create_task(pump(self._reader, writer)),
            loop.create_task(pump(reader, self._writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def half_close(self) -> None:
        self._writer.write_eof()

    def reset(self) -> None:
        """End the connection without TLS's goodbye."""
        self._writer.transport.abort()

    def has_resumed(self) -> bool:
        """Whether the client resumed a TLS session."""
        tls: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        return bool(tls.session_reused)

    def is_backed_up(self) -> bool:
        """Whether the client does not read what was sent."""
        return self._writer.transport.get_write_buffer_size() > 0


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """A running server."""

    def __init__(self, origin: Origin, server: StreamServer) -> None:
        self.origin = origin
        self._server = server

    @property
    def connections(self) -> int:
        """How many were accepted."""
        return self._server.connections


@asynccontextmanager
async def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """A server on a free port of 127.0.0.1, called `localhost` if it speaks TLS. Faults of the script are raised at the
    end.
    """
    async with stream_server(lambda reader, writer: script(Peer(reader, writer)), tls=tls) as server:
        scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
        yield Upstream(Origin(scheme, host, server.port), server)


def answers(*responses: bytes) -> Script:
    """Reads a request, sends the next response, and so on; then the connection is closed."""

    async def script(peer: Peer) -> None:
        for response in responses:
            await peer.request()
            await peer.send(response)

    return script


def always(response: bytes) -> Script:
    """Sends this response to every request."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(response)

    return script


def in_turn(*scripts: Script) -> Script:
    """The first connection runs the first script, and so on."""
    remaining = iter(scripts)

    async def script(peer: Peer) -> None:
        await next(remaining)(peer)

    return script


def response(body: bytes = b"", *, status: str = "200 OK", **fields: str) -> bytes:
    """A response with a length; underscores in the names of fields stand for hyphens."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def post(body: bytes = b"", *, path: str = "/", host: str = "upstream") -> bytes:
    """The head of a POST."""
    return f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
