"""Keeps the HTTP/2 connections to one server. The first connection with room for a stream is used. If none has room,
another is opened.

Opening belongs to the pool, not to the caller. All waiting callers share one attempt, and one that gives up does not
end it. While the server cannot be reached, calls fail at once with the reason. New attempts follow after short pauses.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from bridge.carriers.http2.connection import Http2Connection
from bridge.rpc.errors import Draining, Overloaded, Unreachable, copy_of
from bridge.rpc.value import FrozenValue

Dial = Callable[[Callable[[], Http2Connection]], Awaitable[Http2Connection]]
"""Takes a function that makes a protocol, and connects the protocol. Raises Unreachable, CertificateRefused."""


class Http2PoolLimits(FrozenValue, frozen=True):
    """What bounds the connections to one gRPC server, and the calls that wait for them."""

    connections: int = 64
    """Connections to one server at once, without those that are ending."""
    waiting: int = 10_000
    """Calls that may wait for a stream. More are refused."""
    first_pause: float = 0.02
    """Seconds of pause after a failed attempt, doubled each time."""
    longest_pause: float = 1.0


class Http2Pool:
    """Owns its connections. Belongs to the running loop."""

    def __init__(
        self,
        name: str,
        dial: Dial,
        *,
        new_connection: Callable[[Http2Pool], Http2Connection] = Http2Connection,
        limits: Http2PoolLimits | None = None,
    ) -> None:
        """`name`: the server's, for messages."""
        self.name = name
        self._dial = dial
        self._new_connection = new_connection
        self._limits = limits or Http2PoolLimits()
        self._loop = asyncio.get_running_loop()
        self._connections: list[Http2Connection] = []
        self._waiting: OrderedDict[asyncio.Future[Http2Connection], None] = OrderedDict()
        self._attempt: asyncio.Task[Http2Connection] | None = None
        self._failure: BaseException | None = None
        """The error of the last attempt, or None if it succeeded."""
        self._pause = 0.0
        self._next_attempt_at = 0.0
        self._is_closed = False

    @property
    def open_count(self) -> int:
        return len(self._connections)

    def request_id_of(self, connection: Http2Connection) -> str:  # noqa: ARG002 - a server has no invocations
        """Return an empty text: the connections lead to a server."""
        return ""

    async def connection(self) -> Http2Connection:
        """Return a connection with room for a stream. The caller must open it before it awaits anything else. Raises
        Unreachable, CertificateRefused, Overloaded, Draining.
        """
        if not self._waiting:
            found = self._free()
            if found is not None:
                return found
        while True:
            found = await self._wait()
            if found.capacity > 0:
                return found  # otherwise the connection was lost meanwhile, and its promise is void

    async def _wait(self) -> Http2Connection:
        """Wait in line for a connection with room for this caller's stream."""
        self._refuse_if_hopeless()
        waiter: asyncio.Future[Http2Connection] = self._loop.create_future()
        self._waiting[waiter] = None
        self._connect_as_needed()
        try:
            found = await waiter
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().reserved -= 1
                self._serve()
            raise
        found.reserved -= 1
        return found

    def adopt(self, connection: Http2Connection) -> None:
        """Use a connection that is ready, whichever side opened it. This pool becomes its owner."""
        self._connections.append(connection)
        self._serve()

    def _refuse_if_hopeless(self) -> None:
        if self._is_closed:
            raise Draining("the bridge stops")
        if len(self._waiting) >= self._limits.waiting:
            raise Overloaded(
                f"{len(self._waiting)} calls wait for a stream to {self.name} already",
                kind="connections",
            )
        if (
            self._failure is not None
            and self._attempt is None
            and not self._connections
            and self._loop.time() < self._next_attempt_at
        ):
            raise copy_of(self._failure)

    def _free(self) -> Http2Connection | None:
        for connection in self._connections:
            if connection.capacity > 0:
                return connection
        return None

    def _serve(self) -> None:
        """Give streams to the callers that have waited longest, and open another connection if they do not suffice."""
        while self._waiting:
            found = self._free()
            if found is None:
                self._connect_as_needed()
                return
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                found.reserved += 1
                waiter.set_result(found)

    # -- opening connections -------------------------------------------------------------------------------------------

    def _connect_as_needed(self) -> None:
        """Open a connection. Only one attempt runs at a time, because a connection has room for many streams."""
        if self._attempt is not None or self._is_closed or not self._waiting:
            return
        lasting = [each for each in self._connections if each.can_ever_take_more]
        if len(lasting) >= self._limits.connections or any(not each.max_streams for each in lasting):
            return  # a server that allows no streams now would allow none on another connection
        wait = self._next_attempt_at - self._loop.time()
        if wait > 0 and lasting:
            self._loop.call_later(wait, self._connect_as_needed)
            return
        self._attempt = self._loop.create_task(self._connect())
        self._attempt.add_done_callback(self._connected)

    async def _connect(self) -> Http2Connection:
        return await self._dial(lambda: self._new_connection(self))

    def _connected(self, attempt: asyncio.Task[Http2Connection]) -> None:
        self._attempt = None
        if attempt.cancelled():
            return
        self._failure = attempt.exception()
        if self._failure is None and not attempt.result().can_ever_take_more:
            self._failure = Unreachable(f"{self.name} closes connections before they are used")
        if self._failure is None:
            self._pause = 0.0
            self.adopt(attempt.result())
        else:
            self._pause_attempts()
            if not self._connections:
                self._refuse_all(self._failure)
            self._serve()

    def _pause_attempts(self) -> None:
        limits = self._limits
        self._pause = min(max(limits.first_pause, 2 * self._pause), limits.longest_pause)
        self._next_attempt_at = self._loop.time() + self._pause

    def _refuse_all(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(copy_of(error))

    # -- for the connections -------------------------------------------------------------------------------------------

    def changed(self, connection: Http2Connection) -> None:  # noqa: ARG002 - Owner's signature
        if self._waiting:
            self._serve()

    def lost(self, connection: Http2Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
        self._serve()

    # -- the end -------------------------------------------------------------------------------------------------------

    def close_idle(self) -> None:
        """Close unused connections. The others close with their last call."""
        for connection in list(self._connections):
            connection.close()

    async def close(self) -> None:
        """Close everything now. Calls under way fail with Draining."""
        self._is_closed = True
        stopping = Draining("the bridge stops")
        self._refuse_all(stopping)
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait((self._attempt,))
        for connection in list(self._connections):
            await connection.end(stopping)
