"""A bridge before a function in full duplex, in the test's process: the real listener and carrier, and a handler that
runs in a thread for each invocation.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc

from bridge.aws.events.duplex_order import KEY, PinnedCertificate
from bridge.aws.invoke import InvokeReply
from bridge.carriers.duplex.carrier import DuplexCarrier, facts_of
from bridge.carriers.duplex.certificate import make_certificate
from bridge.carriers.duplex.rendezvous import Rendezvous
from bridge.config.schema import Duplex
from bridge.http2.native import NativeEngine
from bridge.rpc.address import TcpAddress
from bridge.rpc.call import Call
from bridge.rpc.errors import RpcError
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits
from bridge.targets.grpc_target import GrpcTarget, passed_metadata
from lambda_fn import LambdaServer
from tests.support.behaviours import Method, add
from tests.support.lambda_channel import LambdaContextDouble
from tests.support.listening import eventually, listening, port_of
from tests.support.serving import serving


class Functions:
    """Runs a handler for each invocation, as Lambda does, and counts them."""

    def __init__(self, handler: Any, *, remaining: int = 60_000) -> None:
        self._handler = handler
        self._remaining = remaining
        self._threads = ThreadPoolExecutor(64)
        self.invoked = 0
        self.running = 0
        self.error: Exception | None = None
        """Raised in place of an invocation."""
        self.stand_in: Callable[[Any], Awaitable[Any]] | None = None
        """Takes the event in place of the handler."""

    async def invoke(self, payload: bytes) -> InvokeReply:
        self.invoked += 1
        if self.error is not None:
            raise self.error
        context = LambdaContextDouble(remaining=self._remaining, aws_request_id=f"request-{self.invoked}")
        self.running += 1
        try:
            if self.stand_in is not None:
                await self.stand_in(json.loads(payload))
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._threads, self._handler, json.loads(payload), context)
        finally:
            self.running -= 1
        return InvokeReply(json.dumps(reply).encode(), context.aws_request_id)

    async def dry_run(self) -> None: ...


class Bridge:
    """A server whose one target is a function in full duplex."""

    def __init__(
        self,
        address: str,
        functions: Functions,
        rendezvous: Rendezvous,
        carrier: DuplexCarrier,
        refusals: list[None],
    ) -> None:
        self.address = address
        self.functions = functions
        self.rendezvous = rendezvous
        self.carrier = carrier
        self._refusals = refusals

    @property
    def refused(self) -> int:
        """How many strangers had no valid token."""
        return len(self._refusals)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])


@asynccontextmanager
async def bridged(
    methods: Mapping[str, Method] | Any,
    *,
    settings: Duplex | None = None,
    tls: bool = False,
    remaining: int = 60_000,
    failures: list[RpcError] | None = None,
    **options: Any,
) -> AsyncIterator[Bridge]:
    """`methods` are those of a LambdaServer, or a handler. `failures` gets the errors with which calls end."""
    server = LambdaServer(**options)
    if isinstance(methods, Mapping):
        add(server, methods)
        handler: Any = server.handler
    else:
        handler = methods
    context, pem = make_certificate() if tls else (None, None)
    found = socket.create_server(("127.0.0.1", 0))  # to know the port before it is advertised
    port = found.getsockname()[1]
    found.close()
    refusals: list[None] = []
    rendezvous = Rendezvous(
        TcpAddress("127.0.0.1", port),
        certificate=None if pem is None else PinnedCertificate(pem),
        tls=context,
        count_stranger=lambda: refusals.append(None),
    )
    rendezvous.listen(TcpAddress("127.0.0.1", port))
    functions, figures = Functions(handler, remaining=remaining), TargetFigures("greeter")
    carrier = DuplexCarrier(
        "greeter",
        functions,
        place=rendezvous,
        settings=settings or Duplex(),
        limits=Limits(max_request=64 << 20, max_response=None),
        observer=figures,
    )
    target = GrpcTarget(
        carrier,
        clock=asyncio.get_running_loop().time,
        metadata_of=lambda call: (*passed_metadata(call), *facts_of(call)),
    )

    async def handle(call: Call) -> None:
        try:
            await target.handle(call)
        except RpcError as error:
            if failures is not None:
                failures.append(error)
            raise

    context_of_server = serving(handle, new_engine=NativeEngine, limits=carrier.limits, streams=True)
    try:
        async with listening(context_of_server) as running:
            yield Bridge(f"127.0.0.1:{port_of(running)}", functions, rendezvous, carrier, refusals)
    finally:
        await carrier.close()
        await rendezvous.close()
        await eventually(lambda: functions.running == 0)
        server.close()


async def _chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"re: " + request


def _echo(request: bytes, context: Any) -> bytes:
    return b"echo " + request


def _request_id(request: bytes, context: Any) -> bytes:
    return str(context.lambda_context.aws_request_id).encode()


METHODS: dict[str, Method] = {
    "Chat": ("stream_stream", _chat),
    "Echo": ("unary_unary", _echo),
    "RequestId": ("unary_unary", _request_id),
}


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def attached_by_hand(event: Any) -> socket.socket:
    """Follow the order as lambda_fn does, with a server that says nothing after its SETTINGS."""
    order = event[KEY]
    host, _, port = order["address"].rpartition(":")
    opened = socket.create_connection((host, int(port)))
    opened.sendall(f"GLB1 {order['token']} request-1 60000\n".encode())
    opened.sendall(bytes.fromhex("000000040000000000"))  # SETTINGS
    return opened


def read_until_headers(opened: socket.socket) -> None:
    """Read the client's preface and its frames up to the first HEADERS."""
    read = opened.makefile("rb").read
    read(24)
    kind = -1
    while kind != 1:
        head = read(9)
        kind = head[3]
        read(int.from_bytes(head[:3], "big"))


def trailers_only(*, status: bytes) -> bytes:
    """A response on stream 1 that is over at once: :status 200, content-type, grpc-status."""
    block = bytes([0x88])
    for name, value in ((b"content-type", b"application/grpc"), (b"grpc-status", status)):
        block += bytes([0, len(name)]) + name + bytes([len(value)]) + value
    return len(block).to_bytes(3, "big") + bytes([1, 5]) + (1).to_bytes(4, "big") + block
