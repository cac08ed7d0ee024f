"""The JSON function that the JSON attacks call: a small HTTP server in the attacker's process, and the configuration
that leads to it.

It is part of the attack. An attacker's function that answers with much JSON is as good for harming others as a request.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

PORT = 7291
CONFIG = f"""
services:
  bench.json.Json:
    target: http://127.0.0.1:{PORT}
    payload: json
    descriptors: {Path(__file__).parent.as_posix()}
"""

_PATIENCE = 20.0
"""Seconds after which a call is given up."""


def _order(number: int) -> dict[str, object]:
    return {
        "id": f"order-{number}",
        "totalCents": str(number * 17),
        "note": "please leave it at the door",
        "ratio": 0.5,
        "itemCounts": {"apple": 3, "pear": number % 7},
        "signature": "aGVsbG8gd29ybGQ=",
        "numbers": [1, 2, 3],
    }


def ordinary_json(size: int) -> bytes:
    """Orders of about so many bytes."""
    one = len(json.dumps(_order(1000), separators=(",", ":"))) + 1
    parts = [_order(number) for number in range(size // one)]
    return json.dumps({"parts": parts}, separators=(",", ":")).encode()


ANSWERS = {
    "/bench.json.Json/Say": b'{"id":"1"}',
    "/bench.json.Json/Large": ordinary_json(1_000_000),
    "/bench.json.Json/Huge": ordinary_json(4_000_000),
    "/bench.json.Json/Nested": b'{"extra":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "/bench.json.Json/Empty": b'{"parts":[' + b"{}," * 1_000_000 + b"{}]}",
    "/bench.json.Json/LongKey": b'{"extra":{"%b":[%b1]}}' % (b"k" * 1_000_000, b"1," * 400_000),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One call of an attack."""

    method: str
    message: bytes
    compression: grpc.Compression = grpc.Compression.NoCompression
    sent: int | None = None
    """Bytes on the wire; None: as many as the message has."""


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """The function answers meanwhile."""
    server = await asyncio.start_server(_serve, "127.0.0.1", PORT, reuse_port=True)
    async with server:
        yield


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, EOFError, asyncio.CancelledError):
        while line := await reader.readline():
            path, size = line.split()[1].decode(), 0
            while (field := (await reader.readline()).strip()) != b"":
                name, _, value = field.partition(b":")
                if name.lower() == b"content-length":
                    size = int(value)
            await reader.readexactly(size)
            body = ANSWERS[path]
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            writer.write(head % len(body) + body)
            await writer.drain()
    writer.close()


async def call_in_turn(
    host: str,
    port: int,
    seconds: float,
    tls: ssl.SSLContext | None,
    requests: Sequence[Request],
    *,
    at_once: int,
) -> int:
    """Make these calls again and again until the time is over, so many at once. Returns the bytes sent."""
    until = asyncio.get_running_loop().time() + seconds
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if tls is None:
        channel = grpc.aio.insecure_channel(f"{host}:{port}", options)
    else:
        # grpcio takes no SSLContext; what it trusts is in there.
        pems = [ssl.DER_cert_to_PEM_cert(der) for der in tls.get_ca_certs(binary_form=True)]
        credentials = grpc.ssl_channel_credentials("".join(pems).encode())
        channel = grpc.aio.secure_channel(f"localhost:{port}", credentials, options)
    sent = 0

    async def call_on() -> None:
        nonlocal sent
        number = 0
        while True:
            request = requests[number % len(requests)]
            number += 1
            call = channel.unary_unary(f"/bench.json.Json/{request.method}", lambda raw: raw, lambda raw: raw)
            with suppress(grpc.RpcError):
                await call(request.message, timeout=_PATIENCE, compression=request.compression)
            sent += len(request.message) if request.sent is None else request.sent

    async with answering(), channel:
        calls = [asyncio.get_running_loop().create_task(call_on()) for _ in range(at_once)]
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await asyncio.gather(*calls)
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    return sent
