"""The whole per-call path in one process, without sockets: what a client would send goes in, a canned Lambda answers.

Everything between is the bridge's own, put together from a configuration as the command does it: connection, engine,
layers, target, signing, HTTP client. Only the two transports are stand-ins, so that what is left is our own code's
time.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from hpack import Encoder

from bridge.carriers.http1.client import BUFFER_SIZE, HttpClient
from bridge.carriers.http1.connect import Dialer
from bridge.carriers.http1.connection import Http1Connection as UpstreamConnection
from bridge.carriers.http1.pool import Pool
from bridge.carriers.http1.proxies import Proxies
from bridge.carriers.http1.resolver import Resolver
from bridge.config.load import parse
from bridge.config.schema import Config
from bridge.http2 import frames
from bridge.http2.interface import EngineLimits
from bridge.http2.native import NativeEngine
from bridge.http2.preface import PREFACE
from bridge.layers.access_log import AccessLog
from bridge.layers.deadline import Deadlines
from bridge.layers.notable import NotableCalls
from bridge.layers.route_table import MethodRegistry, RouteTable
from bridge.rpc.buffers import Buffers
from bridge.rpc.figures import BridgeFigures, TargetFigures
from bridge.rpc.limits import ConnectionLimits, PoolLimits
from bridge.rpc.url import ConnectTo, Origin
from bridge.server.connection import Connection, ServerContext
from bridge.server.uploads import Uploads
from bridge.stack import Shared, Stack, front

PATH = "/bench.Plain/Say"

CONFIG = """
services: {bench.Plain: local:greeter}
functions: {greeter: {command: [never-run]}}
"""
"""A local function: its credentials are fixed, so that nothing is sought. The path is that of every Lambda function."""

REQUEST = b"\0\0\0\0\x07\n\x05world"

REQUEST_ID = "8b1c5a2e-7f0e-4d0a-9a2e-1c2d3e4f5a6b"

REPLY = (
    b'{"statusCode":200,"headers":{"content-type":"application/grpc-web+proto"},"isBase64Encoded":true,'
    b'"body":"AAAAAA0KC0hlbGxvIHdvcmxkgAAAAA9ncnBjLXN0YXR1czowDQo="}'
)
"""HelloReply{message: "Hello world"}, then grpc-status:0."""

REPLY_ENVELOPE = b"\0\0\0\0\x0d\n\x0bHello world"

RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 12 Mar 2026 19:03:58 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: keep-alive\r\nx-amzn-RequestId: %b\r\n\r\n%b" % (len(REPLY), REQUEST_ID.encode(), REPLY)
)

_END = b"grpc-status"
"""In every call's trailers once: the engine writes header names as they are."""


TRACE = "0af7651916cd43dd8448eb211c80319c"


def request_fields(timeout: str = "5S", span: str = "b7ad6b7169203331") -> list[tuple[str, str]]:
    """The header list of a call as grpc-go sends it."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", "127.0.0.1:50051"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.66.0"),
        ("te", "trailers"),
        ("grpc-timeout", timeout),
        ("traceparent", f"00-{TRACE}-{span}-01"),
    ]


class Client:
    """The client's end of one connection: makes the bytes of calls, counts answers. It is the connection's
    transport.
    """

    def __init__(self, *, varies: bool) -> None:
        """`varies`: each call has its own grpc-timeout and traceparent, so that no two header blocks are the same."""
        self._encoder = Encoder()
        self._chance = random.Random(1) if varies else None
        self._stream = -1
        self._awaited = 0
        self._all_here: asyncio.Future[None] | None = None

    def hello(self) -> bytes:
        window = frames.settings({frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW})
        return PREFACE + window + frames.window_update(0, 1 << 30)

    def calls(self, count: int) -> bytes:
        """The frames of so many calls."""
        return b"".join([self._call() for _ in range(count)])

    def _call(self) -> bytes:
        self._stream += 2
        block = self._encoder.encode(self._fields())
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, self._stream, block)
        return head + frames.frame(frames.DATA, frames.END_STREAM, self._stream, REQUEST)

    def _fields(self) -> list[tuple[str, str]]:
        chance = self._chance
        if chance is None:
            return request_fields()
        return request_fields(f"{chance.randrange(4_990_000, 4_999_999)}u", f"{chance.getrandbits(64):016x}")

    def expect(self, count: int) -> asyncio.Future[None]:
        """Done when so many more calls have ended."""
        self._awaited = count
        self._all_here = asyncio.get_running_loop().create_future()
        return self._all_here

    # -- a transport, as far as a connection uses one -----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._awaited -= data.count(_END)
        if self._awaited <= 0 and self._all_here is not None and not self._all_here.done():
            self._all_here.set_result(None)

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 50000) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        pass


class CannedTransport:
    """The other end of an upstream connection: whatever it is sent, it answers a loop turn later."""

    def __init__(self, connection: UpstreamConnection, sock: socket.socket) -> None:
        self._connection = connection
        self._socket = sock
        self._loop = asyncio.get_running_loop()

    def write(self, _request: bytes) -> None:
        self._loop.call_soon(self._answer)

    def _answer(self) -> None:
        size = len(RESPONSE)
        self._connection.get_buffer(size)[:size] = RESPONSE
        self._connection.buffer_updated(size)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> None:
        return None

    def abort(self) -> None:
        self._socket.close()
        self._loop.call_soon(self._connection.connection_lost, None)


class CannedDialer(Dialer):
    """Opens connections that lead nowhere."""

    def __init__(self) -> None:
        super().__init__(Resolver(), Proxies.from_environment({}))

    async def dial(
        self,
        origin: Origin,  # noqa: ARG002 - Dialer's signature
        tls: ssl.SSLContext | None,  # noqa: ARG002
        make_protocol: Any,
        *,
        connect_to: ConnectTo | None = None,  # noqa: ARG002
    ) -> Any:
        sock = socket.socket()
        connection = cast("UpstreamConnection", make_protocol(sock))
        transport = CannedTransport(connection, sock)
        connection.connection_made(cast("asyncio.BaseTransport", transport))
        return connection


class CannedClient(HttpClient):
    """The HTTP client of a bridge that reaches nobody."""

    def __init__(self) -> None:
        super().__init__(environment={})
        self._canned: Pool | None = None

    def pool(
        self,
        origin: Origin,
        tls: ssl.SSLContext | None = None,  # noqa: ARG002 - HttpClient's signature
        *,
        connect_to: ConnectTo | None = None,  # noqa: ARG002
    ) -> Pool:
        if self._canned is None:
            buffer = memoryview(bytearray(BUFFER_SIZE))
            # In steady use, however slow the counting makes it: a look at a socket that is none would find it closed.
            limits = PoolLimits(looked_at_after=1000.0)
            self._canned = Pool(origin, None, dialer=CannedDialer(), limits=limits, buffer=buffer)
        return self._canned

    async def close(self) -> None:
        if self._canned is not None:
            await self._canned.close()
        await super().close()


class CannedStack(Stack):
    """The stack of a bridge that reaches nobody."""

    def __init__(self, config: Config, shared: Shared) -> None:
        super().__init__(config, shared, local_endpoint="http://127.0.0.1:9")
        self._targets._client = CannedClient()  # noqa: SLF001 - the one seam there is


_LONGEST = 120.0
"""Seconds; a call that is never answered must not hang whoever runs this."""


class InProcess:
    """A bridge with one connection, ready for calls. Belongs to the running loop; `open` makes one, `close` ends it."""

    def __init__(self, *, varies: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._config = parse(CONFIG, file="bench.yaml", folder=Path(), environ={})
        self._nowhere = os.open(os.devnull, os.O_WRONLY)
        self.figures = BridgeFigures(Buffers(self._config.buffers))
        self.log = AccessLog(loop=loop, wall_clock=time.time, descriptor=self._nowhere)  # noqa: TID251 - as the command does
        self.notable = NotableCalls(wall_clock=time.time)  # noqa: TID251 - as the command does
        self.targets: dict[tuple[str, str], TargetFigures] = {}
        shared = Shared(self.figures, self.targets, Deadlines(loop), {})
        self.stack = CannedStack(self._config, shared)
        self._client = Client(varies=varies)

    async def open(self) -> None:
        await self.stack.open()
        methods = MethodRegistry(lambda _path: "unknown")
        table = RouteTable(self.stack.router, builtin={}, methods=methods)
        self.route = table.resolve(PATH)
        serving = ServerContext(
            handler=front(log=self.log, notable=self.notable, figures=self.figures),
            resolve=table.resolve,
            figures=self.figures,
            new_engine=partial(NativeEngine, EngineLimits()),
            limits=ConnectionLimits(),
            uploads=Uploads(self.figures.buffers),
            refused=lambda _refusal, _connection: None,
        )
        self._connections: set[Connection] = set()
        self.connection = Connection(serving, self._connections)
        self.connection.connection_made(cast("asyncio.BaseTransport", self._client))
        self.connection.received(self._client.hello())

    async def close(self) -> None:
        self.connection.close()
        self.connection.connection_lost(None)
        await self.stack.close()
        self.log.flush()
        os.close(self._nowhere)

    async def serve(self, batches: int, *, at_once: int = 16) -> float:
        """CPU seconds of one call, over so many batches of calls that arrive in one read each."""
        arriving = [self._client.calls(at_once) for _ in range(batches)]
        began = time.thread_time()
        for data in arriving:
            answered = self._client.expect(at_once)
            self.connection.received(data)
            await answered
        return (time.thread_time() - began) / (batches * at_once)


def run(measure: Callable[[InProcess], Any], *, varies: bool = False) -> Any:
    """What the coroutine function returns for an open bridge, on the loop that the command uses."""
    import uvloop

    async def whole() -> Any:
        bridge = InProcess(varies=varies)
        await bridge.open()
        try:
            async with asyncio.timeout(_LONGEST):
                return await measure(bridge)
        finally:
            await bridge.close()

    return uvloop.run(whole())
