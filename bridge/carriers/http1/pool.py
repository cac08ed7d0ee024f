"""Keeps the connections to one origin: alive, bounded in number, the freshest used first. Callers without a connection
wait in order.

A caller gets whichever comes first: a connection that another caller gives back, or one that is being opened. Opening
belongs to the pool, not to the caller. If a caller gives up, the handshake is not wasted: the next caller uses the
connection.

Nothing is sent twice. A request goes to a second connection only if not a byte of it reached the other side of the
first. Either it did not leave, or the other side closed before it arrived. docs/http-targets.md says what that proves,
and for which servers.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Sequence

from bridge.carriers.http1.connect import Dialer
from bridge.carriers.http1.connection import ClosedUnanswered, Http1Connection
from bridge.carriers.http1.exchange import Gathering, Response, StreamedResponse
from bridge.carriers.http1.idle_times import IdleTimes
from bridge.rpc.buffers import Account
from bridge.rpc.errors import Draining, Overloaded, Unreachable
from bridge.rpc.limits import PoolLimits
from bridge.rpc.url import ConnectTo, Origin

SURPLUS_KEPT = 1.0
"""Seconds that connections above `idle_connections` stay. With many short calls, closing each at once would mean
opening as many again.
"""

MOST_REPEATS = 3
"""How often one request may find its connection closed by the server."""

SURELY_ONE_RECORD = 64 << 10
"""Bytes of a request up to which TLS adds fewer bytes than its first record has. The part that arrived is then
unreadable for the server.
"""


class Pool:
    """The pool of connections to one origin."""

    def __init__(
        self,
        origin: Origin,
        tls: ssl.SSLContext | None,
        *,
        connect_to: ConnectTo | None = None,
        dialer: Dialer,
        limits: PoolLimits,
        buffer: memoryview,
    ) -> None:
        """Belongs to the running loop. `tls` may be None for an http origin only. `connect_to` is where the connections
        lead, if not to the origin's own host.
        """
        self.origin = origin
        self._tls = tls
        self._connect_to = connect_to
        self._dialer = dialer
        self._idle_times = IdleTimes(limits)
        self._max_idle = limits.idle_connections
        self._max_open = limits.open_connections
        self._max_waiting = limits.waiting
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._open: set[Http1Connection] = set()
        self._idle: deque[Http1Connection] = deque()
        self._waiting: OrderedDict[asyncio.Future[Http1Connection], None] = OrderedDict()
        self._dials: set[asyncio.Task[Http1Connection]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._trim: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._emptied: asyncio.Future[None] | None = None
        proxy = dialer.proxy_for(origin)
        self._plain_proxy = proxy if not origin.is_secure and connect_to is None else None

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    async def exchange(
        self,
        head: bytes,
        body: bytes | Sequence[bytes] = b"",
        account: Account | None = None,
        *,
        max_body: int,
    ) -> Response:
        """Send a request and read its whole response, with a body of at most `max_body` bytes. `head` ends with the
        empty line and says the body's length. `account`: of the call that this is for, which counts what is
        gathered. Cancelling aborts the connection. Raises Unreachable, CertificateRefused, ConnectionLost, BadReply,
        ReplyTooLarge, Overloaded, BuffersFull, Draining.
        """
        if self._plain_proxy is not None:
            head = self._plain_proxy.absolute_form(head, self.origin)
        repeats = 0
        while True:
            answer: asyncio.Future[Response] = self._loop.create_future()
            gathering = Gathering(answer, max_body, account)
            connection = self._take() or await self._wait()
            while not connection.start(gathering, head, body):
                connection = await self._replace(connection)
            try:
                return await answer
            except asyncio.CancelledError:
                # Otherwise the answer has arrived, and another caller may already use the connection.
                if answer.cancelled():
                    gathering.abandon()
                    connection.abort()
                raise
            except ClosedUnanswered as closed:
                repeats += 1
                self._check_unread(closed, connection, _size_of(head, body), repeats)

    async def open(
        self,
        head: bytes,
        body: bytes | Sequence[bytes] = b"",
        account: Account | None = None,
    ) -> StreamedResponse:
        """Send a request and wait until its response begins. Raises the same errors as `exchange`. The caller closes
        the response.
        """
        if self._plain_proxy is not None:
            head = self._plain_proxy.absolute_form(head, self.origin)
        repeats = 0
        while True:
            begun: asyncio.Future[None] = self._loop.create_future()
            connection = self._take() or await self._wait()
            response = StreamedResponse(begun, account)
            response.carried_by(connection)
            while not connection.start(response, head, body):
                connection = await self._replace(connection)
                response.carried_by(connection)
            try:
                await begun
            except asyncio.CancelledError:
                response.close()
                raise
            except ClosedUnanswered as closed:
                repeats += 1
                self._check_unread(closed, connection, _size_of(head, body), repeats)
            else:
                return response

    async def connect(self) -> None:
        """Wait for a connection: can the origin be reached? Raises as `exchange` does before it sends."""
        connection = self._take()
        if connection is None:
            self.released(await self._wait())
        else:
            self._idle.append(connection)  # its idle time goes on, because nothing was sent on it

    async def close(self) -> None:
        """Close every connection. Callers in the middle of an exchange get ConnectionLost."""
        self._is_closed = True
        self._idle_times.close()
        for timer in (self._sweep, self._trim):
            if timer is not None:
                timer.cancel()
        while self._waiting:
            waiter, _ = self._waiting.popitem()
            if not waiter.done():
                waiter.set_exception(Draining("the bridge stops"))
        for dial in self._dials:
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in list(self._open):
            connection.close()
        if self._open:
            self._emptied = self._loop.create_future()
            await self._emptied

    # -- finding a connection ------------------------------------------------------------------------------------------

    def _take(self) -> Http1Connection | None:
        """Return the most recently used connection that is still good."""
        available = self._idle
        while available:
            connection = available.pop()
            if connection.is_usable():
                idle = self._loop.time() - connection.idle_since
                if idle < self._idle_times.trusted:
                    return connection
                if idle < self._idle_times.limit:
                    if not connection.has_news():
                        return connection
                    self._learn_from(connection)
            connection.abort()
        return None

    async def _wait(self) -> Http1Connection:
        """Wait for the next connection that becomes free or is opened."""
        if self._is_closed:
            raise Draining("the bridge stops")
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} calls wait for a connection to {self.origin} already",
                kind="connections",
            )
        waiter: asyncio.Future[Http1Connection] = self._loop.create_future()
        self._waiting[waiter] = None
        self._dial_as_needed()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            if not waiter.cancelled() and waiter.exception() is None:
                self.released(waiter.result())
            raise

    async def _replace(self, dead: Http1Connection) -> Http1Connection:
        """Replace a connection that ended before a byte of the request left."""
        dead.abort()
        if dead.served == 0:
            raise Unreachable(f"{self.origin} closes connections before they are used")
        return self._take() or await self._wait()

    def _check_unread(self, closed: ClosedUnanswered, connection: Http1Connection, size: int, repeats: int) -> None:
        """Return if a request of this size (bytes) may be sent again, because the server cannot have read any of it.
        Otherwise raise the error.
        """
        if not _is_unread(closed, size, is_tls=self._tls is not None):
            raise closed
        if connection.served == 0 or repeats > MOST_REPEATS:
            raise Unreachable(f"{self.origin} closes connections before they are used") from closed
        self._learn_from(connection)
        # The other callers have waited longer.
        while self._idle:
            self._idle.pop().abort()

    def keeps_alive(self, seconds: float) -> None:
        """Note how long the server says that it keeps idle connections."""
        self._idle_times.announced(seconds)

    def _learn_from(self, closed: Http1Connection) -> None:
        """Note that the server closed an idle connection."""
        self._idle_times.learn(self._loop.time() - closed.idle_since)

    def released(self, connection: Http1Connection) -> None:
        """Give a free connection to the caller that has waited longest, or keep it."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._is_closed:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._trim is None and len(self._idle) > self._max_idle:
            self._trim = self._loop.call_later(SURPLUS_KEPT, self._close_surplus)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._idle_times.timeout, self._close_stale)

    def _close_surplus(self) -> None:
        """Close surplus connections that were not needed for a while, the oldest first."""
        self._trim = None
        unneeded = self._loop.time() - SURPLUS_KEPT
        while len(self._idle) > self._max_idle and self._idle[0].idle_since <= unneeded:
            self._idle.popleft().abort()
        if len(self._idle) > self._max_idle:
            due = self._idle[0].idle_since + SURPLUS_KEPT
            self._trim = self._loop.call_at(due, self._close_surplus)

    def _close_stale(self) -> None:
        """Close connections that were idle too long, the oldest first."""
        self._sweep = None
        stale = self._loop.time() - self._idle_times.timeout
        while self._idle and self._idle[0].idle_since <= stale:
            self._idle.popleft().abort()
        if self._idle:
            due = self._idle[0].idle_since + self._idle_times.timeout
            self._sweep = self._loop.call_at(due, self._close_stale)

    # -- opening connections -------------------------------------------------------------------------------------------

    def _dial_as_needed(self) -> None:
        """Open connections so that each waiting caller has one coming, within the bound."""
        if self._is_closed:
            return
        while len(self._dials) < len(self._waiting) and len(self._open) + len(self._dials) < self._max_open:
            dialing = self._dialer.dial(self.origin, self._tls, self._make_connection, connect_to=self._connect_to)
            dial = self._loop.create_task(dialing)
            self._dials.add(dial)
            dial.add_done_callback(self._dialled)

    def _make_connection(self, opened: socket.socket) -> Http1Connection:
        return Http1Connection(self, opened, self._buffer)

    def _dialled(self, dial: asyncio.Task[Http1Connection]) -> None:
        self._dials.discard(dial)
        if dial.cancelled():
            return
        error = dial.exception()
        if error is not None:
            self._refuse_oldest(error)
        elif dial.result().is_usable():
            # Not in `opened`: the connection may be closed here, and inside `opened` that is too early (see
            # Dialer.dial).
            self.released(dial.result())
        self._dial_as_needed()

    def _refuse_oldest(self, error: BaseException) -> None:
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(error)
                return

    # -- for the connections -------------------------------------------------------------------------------------------

    def opened(self, connection: Http1Connection) -> None:
        self._open.add(connection)

    def lost(self, connection: Http1Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
            self._learn_from(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)
        self._dial_as_needed()


def _size_of(head: bytes, body: bytes | Sequence[bytes]) -> int:
    return len(head) + (len(body) if isinstance(body, bytes) else sum(map(len, body)))


def _is_unread(closed: ClosedUnanswered, size: int, *, is_tls: bool) -> bool:
    """Whether the server cannot have read any of a request of this size (bytes).

    What a server's system had received is acknowledged with the segment that closes the connection. If nothing was
    acknowledged, the program closed before there was anything to read. RFC 9112 9.6 lets it process nothing after that.
    """
    # TLS adds some bytes to each record, and an incomplete record cannot be read.
    is_measurable = not is_tls or size <= SURELY_ONE_RECORD
    return closed.unread >= size and is_measurable
