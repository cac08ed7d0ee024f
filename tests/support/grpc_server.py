"""A real gRPC server of raw bytes: its methods are named by what they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

DETAILS = b"\x08\x05\x12\x07details"
TRAILING = (("b", "1"), ("b", "2"), ("t-bin", b"\x00\xff"))


class RawServer:
    """Serves `/test.Raw/<method>` and keeps what it saw."""

    def __init__(self) -> None:
        self.metadata: list[tuple[tuple[str, str | bytes], ...]] = []
        self.remaining: list[float | None] = []
        self.received: list[bytes] = []
        self.sent = 0
        self.cancelled = asyncio.Event()
        self.address = ""

    # -- methods -----------------------------------------------------------------------------------------------------

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Each message as it comes; initial and trailing metadata."""
        await context.send_initial_metadata((("a", "1"), ("a", "2"), ("i-bin", b"\x00\x01")))
        context.set_trailing_metadata(TRAILING)
        async for message in requests:
            self.received.append(message)
            yield message

    async def fail(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """At once, as trailers-only."""
        await context.abort(
            grpc.StatusCode.UNAVAILABLE,
            "näh: 100%",
            (*TRAILING, ("grpc-status-details-bin", DETAILS)),
        )
        yield b""

    async def half(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Two messages, then a failure."""
        yield b"one"
        yield b"two"
        await context.abort(grpc.StatusCode.DATA_LOSS, "lost", TRAILING)

    async def early(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """One message, and the end, whatever the client still sends."""
        yield b"enough"

    async def silent(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """HEADERS without metadata, then nothing until it is cancelled."""
        await context.send_initial_metadata(())
        try:
            await asyncio.sleep(60)
        finally:
            self.cancelled.set()
        yield b""

    async def flood(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """1,000 messages of 64 KiB."""
        for _ in range(1000):
            yield bytes(1 << 16)
            self.sent += 1

    # -- serving -----------------------------------------------------------------------------------------------------

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = getattr(self, details.method.rpartition("/")[2], None)
        if method is None:
            return None

        async def serve(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            self.metadata.append(tuple(context.invocation_metadata()))
            self.remaining.append(context.time_remaining())
            async for message in method(requests, context):
                yield message

        return grpc.stream_stream_rpc_method_handler(serve)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: RawServer) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._server.service(handler_call_details)


@asynccontextmanager
async def raw_server(
    *,
    socket: Path | None = None,
    credentials: grpc.ServerCredentials | None = None,
    compression: grpc.Compression | None = None,
    port: int = 0,
) -> AsyncIterator[RawServer]:
    """Listens on a free port of 127.0.0.1, or on a Unix socket."""
    raw = RawServer()
    server = aio.server(compression=compression)
    server.add_generic_rpc_handlers((_Handler(raw),))
    address = f"127.0.0.1:{port}" if socket is None else f"unix:{socket}"
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    raw.address = f"127.0.0.1:{port}" if socket is None else address
    await server.start()
    try:
        yield raw
    finally:
        await server.stop(None)
