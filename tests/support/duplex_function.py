"""A function whose every answer says which process gave it. Its log says when an invocation has ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from lambda_fn import LambdaServer
from tests.support.behaviours import add


async def _chat(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield b"%d %b" % (os.getpid(), request)


async def _sleep(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(float(request))
    return b"%d" % os.getpid()


server = LambdaServer()
add(server, {"Chat": ("stream_stream", _chat), "Sleep": ("unary_unary", _sleep)})


def handler(event: Mapping[str, Any], context: Any) -> Any:
    """Say in the log when an invocation has ended."""
    if os.environ.get("NEVER_CONNECTS"):
        time.sleep(60)
    reply = server.handler(event, context)
    print(f"returned {os.getpid()}")
    return reply
