"""The server owns the listeners, which are bound once, and their connections. Its drain loses no call."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from time import monotonic
from typing import TypeVar

from bridge.config.schema import Listener
from bridge.rpc.address import TcpAddress, UnixAddress
from bridge.rpc.errors import Draining
from bridge.rpc.events import Phase
from bridge.rpc.limits import MaxConnections
from bridge.rpc.recent import OpenCall
from bridge.server.admission import Admission, peer_key
from bridge.server.connection import Connection, ServerContext
from bridge.server.peer import address_of
from bridge.server.tls import server_context, stamp_of

_logger = logging.getLogger(__name__)

BACKLOG = 1024
_LOOKED_AT_ONCE = 50
"""Connections that are looked at in one turn of the loop; each takes about 10 µs."""
_FINAL_FLUSH_SECONDS = 1.0
"""Seconds that the last trailers have to be sent after the drain's end."""
_LONGEST_PATH = 300
_TLS_GOODBYE = 5.0
"""Seconds that a client has to answer the end of TLS before the socket is closed."""


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """How often a server looks at what it serves."""

    tick: float = 1.0
    """Seconds between two looks at every connection's time limits."""
    tls_check_ticks: int = 10
    """Ticks between two looks at the certificate files."""
    tls_handshake: float = 10.0
    """Seconds that a TLS handshake may take."""


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """The socket of a listener. It is bound, so nobody else can take its address."""

    listener: Listener
    sock: socket.socket
    is_shared: bool = False
    """Other processes accept on the same socket, so this one must not remove its path."""

    @property
    def address(self) -> str:
        """The listener's address, with the port that was chosen for port 0."""
        if isinstance(self.listener.address, UnixAddress):
            return str(self.listener.address)
        return str(TcpAddress(*self.sock.getsockname()[:2]))

    def close(self) -> None:
        """Undo `bind`. Only the first call acts: later the path may belong to another process."""
        if self.sock.fileno() < 0:
            return
        if isinstance(self.listener.address, UnixAddress) and not self.is_shared:
            self.listener.address.path.unlink(missing_ok=True)
        self.sock.close()


def bind(listener: Listener) -> BoundSocket:
    """Bind a socket that does not listen yet. A dead Unix socket at the path is replaced, a live one is not. Raises
    OSError.
    """
    if isinstance(listener.address, UnixAddress):
        return BoundSocket(listener, _bind_unix(listener.address.path, listener.mode))
    return BoundSocket(listener, _bind_tcp(listener.address))


def _bind_tcp(address: TcpAddress) -> socket.socket:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, where = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: Path, mode: int) -> socket.socket:
    if path.is_socket() and _is_dead(path):
        path.unlink()  # left behind by a process that was killed
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(mode)  # it does not listen yet, so no client has connected with the umask's permissions
    except OSError:
        sock.close()
        raise
    return sock


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # noqa: FBT003 - with a full queue this would block; a full queue shows that a process listens
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


_AT_ONCE = 16
"""Sockets that are accepted in one turn of the loop, so that a flood of connections leaves time for calls."""
_TURNS_TO_CLOSE = 5
"""Turns of the loop after which an abandoned socket is certainly closed."""
_PAUSE = 0.1
"""Seconds without accepting after the system had no file descriptor or no memory for a socket."""
_SHORT = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


ConnectionType = TypeVar("ConnectionType", bound=Connection)

_arrival_of_context: ContextVar[_Arrival | None] = ContextVar("arrival", default=None)
"""Whose TLS handshake runs. OpenSSL's objects know no peer, and one SSLContext serves all clients; the loops run a
socket's callbacks in the context of the task that began it.
"""


class _Arrival:
    """What Admission counts: an accepted socket, and later its connection."""

    def __init__(self, listener: _Listener, server: Server, sock: socket.socket, address: object) -> None:
        self.peer = peer_key(address)
        self.address = address_of(address)
        self.has_failed = False
        """Whether its TLS handshake has failed."""
        self._listener = listener
        self.task: asyncio.Task[None] | None = None
        self._server = server
        self._sock = sock
        self._tls: ssl.SSLContext | None = None
        self._connection: Connection | None = None
        self._is_unwanted = False

    @property
    def is_idle(self) -> bool:
        return self._connection is None or self._connection.is_idle

    def begin(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self.task = asyncio.get_running_loop().create_task(self._connect())
        self._server.arriving.add(self)
        self.task.add_done_callback(self._arrived)

    async def _connect(self) -> None:
        tls, seconds = self._tls, self._server.times.tls_handshake
        _arrival_of_context.set(self)
        try:
            await self._move_down()
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make_connection,
                self._sock,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else seconds,
                ssl_shutdown_timeout=None if tls is None else _TLS_GOODBYE,
            )
        except OSError as error:
            # The handshake failed, which the listener was told, or it took too long, or the client has gone.
            self._sock.close()
            # Both loops abort a handshake that takes too long. A client that leaves has another error.
            if tls is not None and not self.has_failed and isinstance(error, ConnectionAbortedError):
                self._listener.handshake_failed(f"it was not over after {seconds:g} s", self)

    async def _move_down(self) -> None:
        """Swap a file descriptor that is kept for other uses for the one that an idle connection has freed."""
        for _ in range(_TURNS_TO_CLOSE):
            if self._server.admission.is_for_clients(self._sock.fileno()):
                return
            await asyncio.sleep(0)
            former, self._sock = self._sock, self._sock.dup()
            former.close()

    def _make_connection(self) -> Connection:
        self._connection = Connection(self._server.serving, self._server.connections)
        return self._connection

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._server.arriving.discard(self)
        if task.cancelled():
            self._sock.close()  # no task owns the socket if the handshake never began
        connection = self._connection
        if connection is None or connection not in self._server.connections:
            self._left()
            return
        connection.closed.add_done_callback(self._left)
        if self._is_unwanted:
            self._end(connection)

    def _left(self, closed: object = None) -> None:
        del closed
        self._server.admission.leave(self)

    def give_up(self) -> None:
        """Close with a GOAWAY, if there is a client: it may then send its next call elsewhere."""
        connection = self._connection
        if connection is not None and connection in self._server.connections:
            self._end(connection)
        elif self._tls is not None and self.task is not None:
            self.task.cancel()
        else:
            # It becomes a connection in a moment. If its start were cancelled, uvloop would not tell the protocol.
            self._is_unwanted = True

    def _end(self, connection: Connection) -> None:
        connection.end()
        # A client that does not read would keep the socket.
        asyncio.get_running_loop().call_soon(connection.kill)


class _Listener:
    """One bound socket, and the certificate for connections accepted from now on."""

    def __init__(self, server: Server, bound: BoundSocket) -> None:
        self._server = server
        self._bound = bound
        self._sock = bound.sock
        self._context: ssl.SSLContext | None = None
        self._is_accepting = False
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._quiet_until = 0.0
        self.address = bound.address

    def accept(self) -> None:
        """Begin to accept. Raises OSError (also ssl.SSLError) if the certificate files cannot be used."""
        self._load_tls()
        self._sock.setblocking(False)  # noqa: FBT003 - the name of the method says it
        self._sock.listen(BACKLOG)
        self._is_accepting = True
        self._resume()

    def _load_tls(self) -> None:
        tls = self._bound.listener.tls
        if tls is not None:
            self._stamp = stamp_of(tls)
            self._context = server_context(tls, self._handshake_failed)

    def _resume(self) -> None:
        if self._is_accepting:
            asyncio.get_running_loop().add_reader(self._sock, self._accept_some)

    def _accept_some(self) -> bool:
        """Take sockets that wait. Returns whether more may wait."""
        for _ in range(_AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return False  # no socket waits, or another worker was faster
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause()
                    return False
                continue  # accept(2): this is an error of a connection that is already gone
            self._take(sock, address)
        return True

    def _take(self, sock: socket.socket, address: object) -> None:
        arrival = _Arrival(self, self._server, sock, address)
        now = asyncio.get_running_loop().time()
        if self._server.admission.admit(arrival, sock.fileno(), now=now):
            sock.setblocking(False)  # noqa: FBT003 - the name of the method says it
            arrival.begin(self._context)
        else:
            sock.close()

    def _pause(self) -> None:
        """Stop accepting for a while: the kernel keeps the queue, and would wake the loop for it again and again."""
        loop = asyncio.get_running_loop()
        self._server.admission.ran_short(now=loop.time())
        loop.remove_reader(self._sock)
        loop.call_later(_PAUSE, self._resume)

    def _handshake_failed(self, reason: str) -> None:
        self.handshake_failed(reason, _arrival_of_context.get())

    def handshake_failed(self, reason: str, arrival: _Arrival | None) -> None:
        """Count each failure, and log one a second, so that strangers cannot fill the log."""
        if arrival is not None:
            arrival.has_failed = True
        self._server.serving.figures.protocol_errors["tls_handshake"] += 1
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + 1.0
            _logger.info(
                "a TLS handshake of %s at %s failed: %s",
                "a client" if arrival is None else arrival.address,
                self.address,
                reason,
            )

    def reload_tls(self) -> None:
        tls = self._bound.listener.tls
        if tls is None or not self._is_accepting:
            return
        stamp = stamp_of(tls)
        if not stamp or stamp == self._stamp:
            return
        try:
            self._load_tls()
        except OSError as error:  # tried once; the next try waits for the next change
            _logger.warning("%s: the new certificate cannot be used, the old one stays: %s", tls.cert, error)
        else:
            _logger.info("%s: new certificate taken up", tls.cert)

    def drain(self) -> None:
        """Accept what waits in the kernel's queue, and stop. Closing the socket would reset those connections, and a
        client that had sent a call on one of them could not know whether it was served.
        """
        if self._is_accepting:
            for _ in range(BACKLOG // _AT_ONCE):
                if not self._accept_some():
                    break
        self.stop()

    def stop(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            asyncio.get_running_loop().remove_reader(self._sock)
        self._bound.close()


class Server:
    """Accepts connections and ends them in order."""

    def __init__(
        self,
        serving: ServerContext,
        sockets: Sequence[BoundSocket],
        max_connections: MaxConnections | None = None,
        times: ServerTimes | None = None,
    ) -> None:
        self.serving = serving
        self.times = times or ServerTimes()
        self.connections: set[Connection] = set()
        self.admission = Admission(max_connections or MaxConnections(), serving.figures.connections_refused)
        self.arriving: set[_Arrival] = set()
        """The tasks of accepted sockets that are not connections yet, because their TLS handshake is under way."""
        self._listeners = [_Listener(self, bound) for bound in sockets]
        self._ticker: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> list[str]:
        return [listener.address for listener in self._listeners]

    async def attach(
        self, sock: socket.socket, new_connection: Callable[[ServerContext, set[Connection]], ConnectionType]
    ) -> ConnectionType:
        """Serve a socket that no listener has accepted. It counts like every connection, and is not bounded like those
        of clients. Raises OSError.
        """
        connection = new_connection(self.serving, self.connections)
        sock.setblocking(False)  # noqa: FBT003 - the name of the method says it
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except BaseException:
            sock.close()
            raise
        return connection

    def open_calls(self, *, most: int) -> list[OpenCall]:
        """Return the calls under way that have taken the longest, the longest first."""
        calls = (call for connection in self.connections for call in connection.calls.values())
        now = monotonic()
        return [
            OpenCall(
                call.path[:_LONGEST_PATH],
                now - call.started,
                "replies" if call.phase is not Phase.NEW else "at the target" if call.attempts else "waits",
                call.route.target,
                call.tenant,
                call.peer.address,
                call.attempts,
            )
            for call in nsmallest(most, calls, key=lambda call: call.started)
        ]

    async def start(self) -> None:
        """Begin to accept. If certificate files cannot be used, raises OSError and listens nowhere."""
        try:
            for listener in self._listeners:
                listener.accept()
        except OSError:
            await self.close()
            raise
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(self.times.tick)
            ticks += 1
            try:
                await self._check_time()
                if ticks % self.times.tls_check_ticks == 0:
                    for listener in self._listeners:
                        listener.reload_tls()
            except Exception:  # the task's outermost frame: one bug must not end all time limits
                _logger.exception("a bug in the bridge: time limits were not checked")

    async def _check_time(self) -> None:
        """Check every connection, some at a time: thousands in one turn would delay calls."""
        self.serving.uploads.check(asyncio.get_running_loop().time())
        for number, connection in enumerate(tuple(self.connections), start=1):
            if connection in self.connections:
                connection.check_time(asyncio.get_running_loop().time())
            if number % _LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def drain(self, *, allowed: float) -> None:
        """Stop accepting, let calls finish for `allowed` seconds, end the others with UNAVAILABLE, and close."""
        for listener in self._listeners:
            listener.drain()
        try:
            async with asyncio.timeout(allowed):
                await self._all_closed()
        except TimeoutError:
            pass
        await self.close()

    async def _all_closed(self) -> None:
        """Wait until all connections are closed. One that was told to leave closes when its last call ends."""
        while self.connections or self.arriving:
            for connection in tuple(self.connections):
                connection.leave()  # repeated, because a TLS handshake may have been under way
            closed = [each.closed for each in self.connections]
            await asyncio.wait([*closed, *self._arrivals()], timeout=self.times.tick)

    def _arrivals(self) -> list[asyncio.Task[None]]:
        return [arrival.task for arrival in self.arriving if arrival.task is not None]

    async def close(self) -> None:
        """End every call and close everything now. The final frames get a moment to leave."""
        if self._ticker is not None:
            self._ticker.cancel()
        for listener in self._listeners:
            listener.stop()
        for arrival in tuple(self.arriving):
            arrival.give_up()
        await _soon(self._arrivals())
        for connection in self.connections:
            connection.calls.abort(Draining("the bridge is shutting down; call again"))
        await _soon([task for each in self.connections for task in each.calls.tasks])
        for connection in tuple(self.connections):
            connection.end()
        await _soon([each.closed for each in self.connections])
        for connection in tuple(self.connections):
            connection.kill()
        await asyncio.sleep(0)  # lets the cancelled and aborted tasks run


async def _soon(awaited: Sequence[asyncio.Future[None]]) -> None:
    if awaited:
        await asyncio.wait(awaited, timeout=_FINAL_FLUSH_SECONDS)
