"""What a server needs to serve in tests, and a connection whose other end is an H2Client in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bridge.http2.h2_adapter import H2Engine
from bridge.http2.interface import Engine, EngineLimits
from bridge.layers.rescue import rescue
from bridge.layers.route import route
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call, Handler, Route
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Message
from bridge.rpc.figures import BridgeFigures, MethodFigures
from bridge.rpc.limits import ConnectionLimits, Limits
from bridge.server.connection import Connection, ServerContext
from bridge.server.request import Refusal
from bridge.server.uploads import Uploads
from tests.support.h2_client import H2Client


async def echo(call: Call) -> None:
    """Answers with the whole request body as it came."""
    body = await call.read_all()
    call.send(EMPTY_HEADERS)
    call.send(Message(body))
    call.send(OK_TRAILERS)


async def echo_each(call: Call) -> None:
    """Answers each message as it comes."""
    call.send(EMPTY_HEADERS)
    while (message := await call.read_envelope()) is not None:
        if not call.send(Message(message)):
            await call.writable()
    call.send(OK_TRAILERS)


async def wait_for_ever(call: Call) -> None:
    await asyncio.get_running_loop().create_future()


def serving(
    handler: Handler = echo,
    *,
    limits: Limits | None = None,
    connection: ConnectionLimits | None = None,
    new_engine: Callable[[EngineLimits], Engine] = H2Engine,
    engine: EngineLimits | None = None,
    max_buffered: int = 1 << 30,
    layer: Callable[[Handler], Handler] = lambda inner: inner,
    timeout: float | None = None,
    max_call_seconds: float | None = None,
    streams: bool = False,
    refused: Callable[[Refusal, Connection], None] = lambda refusal, connection: None,
) -> ServerContext:
    """Every path leads to `handler`, behind rescue and what `layer` puts around it."""
    figures = BridgeFigures(Buffers(max_buffered, call_cost=0, covered=0))
    only = Route(
        "a.B",
        handler,
        MethodFigures("a.B", "C"),
        limits or Limits(),
        timeout,
        max_call_seconds,
        streams=streams,
    )
    engine_limits = engine or EngineLimits()
    return ServerContext(
        handler=layer(rescue(route, figures=figures)),
        resolve=lambda path: only,
        figures=figures,
        new_engine=lambda: new_engine(engine_limits),
        limits=connection or ConnectionLimits(),
        uploads=Uploads(figures.buffers),
        refused=refused,
    )


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, connection: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": ("10.0.0.9", 5000)})
        self._connection = connection
        self._written = b""
        self.takes_bytes = True
        self.was_aborted = False
        self.unsent = 0
        """What the socket has not taken, as a test says."""
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._written += bytes(data)

    def take(self) -> bytes:
        written, self._written = self._written, b""
        return written

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.takes_bytes = False

    def resume_reading(self) -> None:
        self.takes_bytes = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """As clients do: they hang up when they read that nothing follows."""
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        self.was_aborted = True
        self.close()


class MemoryWire:
    """One connection and its client, without a socket."""

    def __init__(self, served: ServerContext, client: H2Client | None = None) -> None:
        self.connections: set[Connection] = set()
        self.serving = served
        self.figures = served.figures
        self.client = client or H2Client()
        self.connection = Connection(served, self.connections)
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(self.transport)

    async def settle(self) -> None:
        """Let both sides have their turns until nothing more comes."""
        for _ in range(20):
            await asyncio.sleep(0)
            data = self.client.bytes_to_send()
            if data and self.transport.takes_bytes and not self.transport.is_closing():
                self.connection.received(data)
            self.client.receive(self.transport.take())

    async def open(self) -> H2Client:
        await self.settle()
        return self.client

    def later(self, seconds: float) -> None:
        """What the server's look at the time does, this much later."""
        self.connection.check_time(asyncio.get_running_loop().time() + seconds)

    async def close(self) -> None:
        self.transport.close()
        await self.settle()
        if self.connection.calls.tasks:
            await asyncio.wait(tuple(self.connection.calls.tasks))
