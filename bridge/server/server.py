"""The server: listeners bound once, their connections, and the drain that ends them without losing a call."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.config.schema import SOCKET_MODE
from bridge.rpc.errors import Draining
from bridge.server.connection import Connection, Serving
from bridge.server.tls import TlsFiles

_log = logging.getLogger(__name__)

BACKLOG = 1024
_TICK = 1.0
"""Seconds between two looks at every connection's time limits."""
_TLS_CHECK_TICKS = 10
_LAST_WORDS = 1.0
"""Seconds that the last trailers have to leave after the drain's end."""
_TLS_HANDSHAKE = 10.0
_TLS_GOODBYE = 5.0
"""Seconds that a client has to answer the end of TLS before the socket goes."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to accept: a TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None
    tls: TlsFiles | None = None
    mode: int = SOCKET_MODE
    """The permissions of a Unix socket: who may write may connect."""
    is_shared: bool = False
    """Other processes accept on the same socket: its path is not ours to remove."""

    def bound_as(self, sock: socket.socket) -> str:
        """The address with the port that was chosen for port 0."""
        return str(self if self.path is not None else ListenAddress(*sock.getsockname()[:2]))

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def bind(address: ListenAddress) -> socket.socket:
    """A bound socket that does not listen yet. Raises OSError; a dead Unix socket in the way is replaced, a live one is not."""
    if address.path is not None:
        return _bind_unix(address.path, address.mode)
    found = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
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
        path.chmod(
            mode
        )  # it does not listen yet, so nobody has connected by the umask's permissions
    except OSError:
        sock.close()
        raise
    return sock


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # noqa: FBT003 - a full queue would hold us, and says that somebody listens
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def unbind(address: ListenAddress, sock: socket.socket) -> None:
    """Undo `bind`. The first time counts: later the path may be another process's."""
    if sock.fileno() < 0:
        return
    if address.path is not None and not address.is_shared:
        address.path.unlink(missing_ok=True)
    sock.close()


class _Listener:
    """One bound socket and the asyncio server that accepts on a copy of it, replaced when certificates change."""

    def __init__(self, server: Server, address: ListenAddress, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._accepting: asyncio.Server | None = None
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._quiet_until = 0.0
        self.address = address
        self.bound = address.bound_as(sock)

    async def accept(self) -> None:
        """Raises OSError, ssl.SSLError among it, if the certificate files cannot be used."""
        tls, context = self.address.tls, None
        if tls is not None:
            self._stamp = tls.stamp()
            context = tls.context(self._handshake_failed)
        loop = asyncio.get_running_loop()
        server, former = self._server, self._accepting
        # The copy lets a new asyncio server take over while the kernel's queue of connections stays the same.
        self._accepting = await loop.create_server(
            lambda: Connection(server.serving, server.connections),
            sock=self._sock.dup(),
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=None if context is None else _TLS_HANDSHAKE,
            ssl_shutdown_timeout=None if context is None else _TLS_GOODBYE,
        )
        if former is not None:
            former.close()

    def _handshake_failed(self, reason: str) -> None:
        """Counted each time, logged once a second: strangers would fill the log."""
        self._server.serving.figures.protocol_errors["tls_handshake"] += 1
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + 1.0
            _log.info("%s: a TLS handshake failed: %s", self.address, reason)

    async def reload_tls(self) -> None:
        tls = self.address.tls
        if tls is None or self._accepting is None:
            return
        stamp = tls.stamp()
        if not stamp or stamp == self._stamp:
            return
        try:
            await self.accept()
        except OSError as error:  # once: the next try waits for the next change
            _log.warning(
                "%s: the new certificate cannot be used, the old one stays: %s", tls.cert, error
            )
        else:
            _log.info("%s: new certificate taken up", tls.cert)

    def stop(self) -> None:
        unbind(self.address, self._sock)
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None


class Server:
    """Accepts connections and ends them in order."""

    def __init__(
        self, serving: Serving, listeners: Sequence[tuple[ListenAddress, socket.socket]]
    ) -> None:
        self.serving = serving
        self.connections: set[Connection] = set()
        self._listeners = [_Listener(self, address, sock) for address, sock in listeners]
        self._ticker: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> list[str]:
        return [listener.bound for listener in self._listeners]

    async def start(self) -> None:
        """Begin to accept. Raises OSError for certificate files that cannot be used, and then listens nowhere."""
        try:
            for listener in self._listeners:
                await listener.accept()
        except OSError:
            await self.close()
            raise
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK)
            ticks += 1
            try:
                self._check_time()
                if ticks % _TLS_CHECK_TICKS == 0:
                    for listener in self._listeners:
                        await listener.reload_tls()
            except Exception:  # noqa: BLE001 - the task's outermost frame: one bug must not end all time limits
                _log.exception("a bug in the bridge: time limits were not checked")

    def _check_time(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            connection.check_time(now)

    async def drain(self, *, allowed: float) -> None:
        """Stop accepting, let calls finish for `allowed` seconds, end the rest UNAVAILABLE, close."""
        for listener in self._listeners:
            listener.stop()
        try:
            async with asyncio.timeout(allowed):
                await self._all_closed()
        except TimeoutError:
            pass
        await self.close()

    async def _all_closed(self) -> None:
        """A connection that was told to leave closes by itself when its last call ends."""
        while self.connections:
            for connection in tuple(self.connections):
                connection.leave()  # not only at first: a TLS handshake may have been under way
            await asyncio.wait([each.closed for each in self.connections], timeout=_TICK)

    async def close(self) -> None:
        """End every call and close everything now, giving last words a moment to leave."""
        if self._ticker is not None:
            self._ticker.cancel()
        for listener in self._listeners:
            listener.stop()
        for connection in self.connections:
            connection.abort_calls(Draining("the bridge is shutting down; call again"))
        await _soon([task for each in self.connections for task in each.tasks])
        for connection in tuple(self.connections):
            connection.end()
        await _soon([each.closed for each in self.connections])
        for connection in tuple(self.connections):
            connection.kill()
        await asyncio.sleep(0)  # what was cancelled or aborted gets its turn


async def _soon(awaited: Sequence[asyncio.Future[None]]) -> None:
    if awaited:
        await asyncio.wait(awaited, timeout=_LAST_WORDS)
