"""One invocation, and what it gives back as it comes: the runtime's side feeds a Reply, the invoker's side reads it.

A Reply is a stream whether the function streams or not; plain Invoke reads it whole. It holds at most HIGH_WATER bytes
that nobody has read and knows neither HTTP nor processes. A reader that leaves must detach. The invocation continues
without it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from bridge.aws.invoke import MAX_REPLY
from bridge.emulator.instances import failures
from bridge.emulator.instances.failures import Failure
from bridge.rpc.value import FrozenValue

REPLY_HIGH_WATER = 1024 * 1024
"""Unread bytes at which the runtime's connection is paused."""
_LOW_WATER = REPLY_HIGH_WATER // 4


class Invocation(FrozenValue, frozen=True):
    """What the runtime is told."""

    request_id: str
    payload: bytes
    arn: str
    trace_id: str
    client_context: str | None = None
    """JSON in ASCII on one line."""
    wants_log: bool = False
    """Whether the reply comes with the tail of the function's log."""
    tenant: str | None = None
    """Whose it is, if the function has tenants."""


class Reply:
    """Chunks, then an end: whole, or with a Failure. What comes after the end is dropped."""

    __slots__ = (
        "_arrived",
        "_chunks",
        "_is_abandoned",
        "_limit",
        "_on_drained",
        "_over",
        "_streamed_limit",
        "_unread",
        "content_type",
        "failure",
        "is_streamed",
        "size",
    )

    def __init__(self, *, limit: int = MAX_REPLY, streamed_limit: int = MAX_REPLY) -> None:
        """`streamed_limit` holds instead of `limit` if the function streams: for invokers that read as it comes."""
        self.content_type = "application/json"
        self.is_streamed = False
        self.failure: Failure | None = None
        self.size = 0
        """Bytes so far; above the limit the reply fails."""
        self._limit = limit
        self._streamed_limit = streamed_limit
        self._is_abandoned = False
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._arrived = asyncio.Event()
        self._over = asyncio.Event()
        self._on_drained: Callable[[], None] | None = None

    @property
    def limit(self) -> int:
        """Bytes that it may have."""
        return self._streamed_limit if self.is_streamed else self._limit

    # -- the runtime's side

    def feed(self, chunk: bytes, on_drained: Callable[[], None]) -> bool:
        """Take a chunk. False asks to send no more until `on_drained` is called."""
        if self.is_over:
            return True
        self.size += len(chunk)
        if self.size > self.limit:
            self.fail(failures.too_large(self.limit))
            return True
        if self._is_abandoned:
            return True
        self._chunks.append(chunk)
        self._unread += len(chunk)
        self._arrived.set()
        if self._unread < REPLY_HIGH_WATER:
            return True
        self._on_drained = on_drained
        return False

    def end(self) -> None:
        self._over.set()
        self._arrived.set()

    def fail(self, failure: Failure) -> None:
        """End the reply with this failure, if it has not ended yet."""
        if self.is_over:
            return
        self.failure = failure
        self.end()
        self._drained()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    # -- the invoker's side

    async def over(self) -> None:
        """Return when the reply has ended, read or not."""
        await self._over.wait()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what comes until the end; then look at `failure`."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._unread -= len(chunk)
                if self._unread < _LOW_WATER:
                    self._drained()
                yield chunk
            if self.is_over:
                return
            self._arrived.clear()
            await self._arrived.wait()

    def abandon(self) -> None:
        """Nobody reads any more: the rest is dropped as it comes, and the runtime not held back."""
        self._is_abandoned = True
        self._chunks.clear()
        self._unread = 0
        self._drained()

    async def whole(self) -> bytes:
        """Return the body: the function's, or that of its failure."""
        body = b"".join([chunk async for chunk in self.chunks()])
        return body if self.failure is None else self.failure.body

    def _drained(self) -> None:
        resume, self._on_drained = self._on_drained, None
        if resume is not None:
            resume()
