"""The listener at which functions connect. It knows a function by the token that it was given, and by nothing else.

A stranger may send one short line, within a few seconds. Without a valid token it gets nothing. Strangers are bounded:
if there are too many, the one that has taken longest gives way, because a function sends its line at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from typing import NamedTuple, cast

from bridge.aws.events.duplex_order import NamedCertificate, PinnedCertificate
from bridge.carriers.duplex.certificate import duplex_server_context, make_certificate
from bridge.carriers.http1.connect import give_up_unread, keep_alive
from bridge.config.schema import DuplexListener
from bridge.rpc.address import TcpAddress
from bridge.rpc.metadata import clean_value

MAX_MEETING_LINE = 256
"""Bytes of the first line: token, request id, remaining milliseconds."""
LINE_SECONDS = 5.0
"""Time for the TLS handshake and the line."""
MAX_STRANGERS = 512
"""Connections without a valid token, in all and above the number of functions that are expected."""
MAX_STRANGERS_OF_ONE = 64
"""The same for one address."""
_USER_TIMEOUT = 60_000
"""Milliseconds after which a function counts as dead if it acknowledges nothing that it was sent."""
_BACKLOG = 1024
_PAUSE = 0.1
"""Seconds without accepting after the system had no file descriptor for a connection."""

_logger = logging.getLogger(__name__)


class InstanceArrival(NamedTuple):
    """A function that has connected with a valid token."""

    transport: asyncio.Transport
    request_id: str
    """Of its invocation."""
    remaining: float | None
    """Seconds that the invocation has left; None: the function does not know."""
    rest: bytes
    """What it sent after the line: nothing, of an honest function."""


Arrived = Callable[[InstanceArrival], None]


class Rendezvous:
    """Belongs to the running loop."""

    def __init__(
        self,
        advertised: TcpAddress,
        *,
        certificate: PinnedCertificate | NamedCertificate | None = None,
        tls: ssl.SSLContext | None = None,
        count_stranger: Callable[[], None] = lambda: None,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        """`advertised` is the address that functions dial, `certificate` the one that they accept there.
        `count_stranger` is called for each connection that had no valid token.
        """
        self.address = advertised
        self.certificate = certificate
        self._tls = tls
        self._count_stranger = count_stranger
        self._line_seconds = line_seconds
        self._loop = asyncio.get_running_loop()
        self._expected: dict[str, Arrived] = {}
        """By token."""
        self._strangers: OrderedDict[_Stranger, None] = OrderedDict()
        """The one that came first in front."""
        self._by_peer: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None

    def listen(self, address: TcpAddress) -> TcpAddress:
        """Begin to accept, and return the address with its port. Raises OSError."""
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)  # noqa: FBT003 - the loop waits for it
            listening.bind((address.host, address.port))
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
        self._listening = listening
        self._own(self._accept(listening))
        return TcpAddress(*listening.getsockname()[:2])

    def expect(self, arrived: Arrived) -> str:
        """Return a new token. `arrived` is called at most once, when a function comes with it."""
        token = secrets.token_urlsafe(32)
        self._expected[token] = arrived
        return token

    def forget(self, token: str) -> None:
        """Take the token back, if nobody has come with it."""
        self._expected.pop(token, None)

    async def close(self) -> None:
        """Stop listening. Connections that were handed over are not touched."""
        if self._listening is not None:
            self._listening.close()
        for stranger in list(self._strangers):
            stranger.drop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._expected.clear()

    # -- strangers -----------------------------------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                accepted, address = await self._loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            stranger = _Stranger(self, str(address[0]), self._line_seconds)
            self._admit(stranger)
            stranger.greeting = self._begin_to_greet(stranger, accepted)

    def _begin_to_greet(self, stranger: _Stranger, accepted: socket.socket) -> asyncio.Task[None]:
        greeting = self._own(self._greet(stranger, accepted))
        # A task that is cancelled before its first step runs no `finally`.
        greeting.add_done_callback(lambda ended: accepted.close() if ended.cancelled() else None)
        return greeting

    async def _greet(self, stranger: _Stranger, accepted: socket.socket) -> None:
        """Bring the connection up to its first byte."""
        has_begun = False
        try:
            keep_alive(accepted)
            give_up_unread(accepted, _USER_TIMEOUT)
            async with asyncio.timeout(self._line_seconds):
                await self._loop.connect_accepted_socket(lambda: stranger, accepted, ssl=self._tls)
            has_begun = True
        except (OSError, TimeoutError):
            return  # a handshake that fails is a stranger's matter
        finally:
            if not has_begun:
                accepted.close()
                self.refuse(stranger)

    def _admit(self, stranger: _Stranger) -> None:
        self._strangers[stranger] = None
        self._by_peer[stranger.peer] += 1
        awaited = len(self._expected)
        if self._by_peer[stranger.peer] > MAX_STRANGERS_OF_ONE + awaited:
            next(each for each in self._strangers if each.peer == stranger.peer).drop()
        elif len(self._strangers) > MAX_STRANGERS + awaited:
            next(iter(self._strangers)).drop()

    def refuse(self, stranger: _Stranger) -> None:
        """Count a stranger that leaves without a valid token."""
        if self.release(stranger):
            self._count_stranger()

    def release(self, stranger: _Stranger) -> bool:
        """Count it no longer. Returns False if it was not counted."""
        if stranger not in self._strangers:
            return False
        del self._strangers[stranger]
        self._by_peer[stranger.peer] -= 1
        if not self._by_peer[stranger.peer]:
            del self._by_peer[stranger.peer]
        return True

    def take(self, stranger: _Stranger, line: bytes, rest: bytes, transport: asyncio.Transport) -> bool:
        """Hand the connection over, if the line has a valid token. The token cannot be used again."""
        words = line.decode("ascii", "replace").split(" ")
        if len(words) != 4 or words[0] != "GLB1":
            return False
        arrived = self._expected.pop(words[1], None)
        if arrived is None:
            return False
        self.release(stranger)
        arrived(InstanceArrival(transport, clean_value(words[2][:128]), _seconds(words[3]), rest))
        return True

    def _own(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def open_rendezvous(settings: DuplexListener, worker: int, *, count_stranger: Callable[[], None]) -> Rendezvous:
    """Listen for functions. Worker N takes the ports that are N higher. Raises OSError, naming the address or files."""
    listen, advertised = _of_worker(settings.listen, worker), _of_worker(settings.dialled, worker)
    certificate: PinnedCertificate | NamedCertificate | None = None
    tls = None
    if settings.tls is not None:
        tls = duplex_server_context(settings.tls.cert, settings.tls.key)
        certificate = NamedCertificate(advertised.host)
    elif not advertised.is_loopback:  # functions on this machine need no TLS
        tls, pem = make_certificate()
        certificate = PinnedCertificate(pem)
    rendezvous = Rendezvous(advertised, certificate=certificate, tls=tls, count_stranger=count_stranger)
    try:
        rendezvous.listen(listen)
    except OSError as error:
        raise OSError(f"cannot listen on {listen} for functions (duplex.listen): {error.strerror}") from error
    return rendezvous


def _of_worker(address: TcpAddress, worker: int) -> TcpAddress:
    return TcpAddress(address.host, address.port + worker)


class _Stranger(asyncio.Protocol):
    """A connection that has not said who it is."""

    def __init__(self, rendezvous: Rendezvous, peer: str, line_seconds: float) -> None:
        self.peer = peer
        self.greeting: asyncio.Task[None] | None = None
        """Brings the connection up."""
        self._rendezvous = rendezvous
        self._line_seconds = line_seconds
        self._transport: asyncio.Transport | None = None
        self._line = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(self._line_seconds, self.drop)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._line += data
        line, found, rest = bytes(self._line).partition(b"\n")
        if not found and len(line) <= MAX_MEETING_LINE:
            return
        self._stop()
        if len(line) > MAX_MEETING_LINE or not self._rendezvous.take(self, line, rest, self._transport):
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._stop()
        self._rendezvous.refuse(self)

    def drop(self) -> None:
        """End the connection without a word."""
        self._stop()
        self._rendezvous.refuse(self)
        if self._transport is not None:
            self._transport.abort()
        elif self.greeting is not None:
            self.greeting.cancel()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _seconds(milliseconds: str) -> float | None:
    try:
        found = int(milliseconds[:12])
    except ValueError:
        return None
    return None if found < 0 else found / 1000
