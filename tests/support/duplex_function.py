"""A function whose every answer says which process gave it. Its log says when an invocation has ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from lambda_fn import LambdaServer
from lambda_fn.duplex.order import KEY
from tests.support.behaviours import add


async def _chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"%d %b" % (os.getpid(), request)


async def _sleep(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(float(request))
    return b"%d" % os.getpid()


async def _flood(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """Send so many messages of a mebibyte."""
    for _ in range(int(request)):
        yield bytes(1 << 20)


async def _hold(requests: AsyncIterator[bytes], context: Any) -> bytes:
    """Read one message, and no more for as long as it says (seconds). Then read on, and tell how many have come."""
    count = 0
    async for request in requests:
        count += 1
        if count == 1:
            await asyncio.sleep(float(request))
    return b"%d" % count


async def _told(request: bytes, context: Any) -> bytes:
    """Answer with what the client's metadata has under this name."""
    found: str = dict(context.invocation_metadata())[request.decode()]
    return found.encode()


async def _memory(request: bytes, context: Any) -> bytes:
    """The bytes of memory that this process holds."""
    return b"%d" % resident(os.getpid())


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


server = LambdaServer()
add(
    server,
    {
        "Chat": ("stream_stream", _chat),
        "Sleep": ("unary_unary", _sleep),
        "Flood": ("unary_stream", _flood),
        "Hold": ("stream_unary", _hold),
        "Told": ("unary_unary", _told),
        "Memory": ("unary_unary", _memory),
    },
)


def handler(event: Mapping[str, Any], context: Any) -> Any:
    """Say in the log when an invocation has ended, and tell its token to a test that attacks it."""
    if "TELLS_TOKENS" in os.environ:
        with Path(os.environ["TELLS_TOKENS"]).open("a") as file:
            print(event[KEY]["token"], file=file)
    time.sleep(float(os.environ.get("SLEEPS_FIRST", "0")))
    reply = server.handler(event, context)
    print(f"returned {os.getpid()}")
    return reply
