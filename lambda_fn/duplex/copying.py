"""Copies bytes both ways between the connection to the bridge and the server in this function.

One thread serves both directions: a TLS connection must not be read and written by two threads at once. What waits for
a slow reader is bounded, and then the other side is not read, so that HTTP/2's flow control sees it.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable

PIECE = 64 << 10
"""Bytes of one read."""
MOST_WAITING = 256 << 10
"""Bytes that wait for one side before the other is not read any more."""
FLUSH_SECONDS = 1.0
"""Time for the last bytes of a server that has ended."""


class _Side:
    """One of the two sockets, with the bytes that it still has to take."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self.connection = connection
        self.waiting = bytearray()
        self.has_ended = False
        """Whether nothing more comes from it."""
        self.is_gone = False
        """Whether it takes nothing more."""
        self.needs_write = False
        """Whether TLS must write before it can read on."""

    @property
    def has_decrypted(self) -> bool:
        """Whether bytes can be read that `select` does not see: TLS has taken them off the socket."""
        return isinstance(self.connection, ssl.SSLSocket) and self.connection.pending() > 0

    def read(self) -> bytes:
        """Return what has arrived, b"" if nothing has."""
        self.needs_write = False
        try:
            data = self.connection.recv(PIECE)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return b""
        except ssl.SSLWantWriteError:
            self.needs_write = True
            return b""
        except (OSError, ValueError):
            data = b""
        if not data:
            self.has_ended = True
        return data

    def write(self) -> None:
        """Send of what waits as much as the other end takes."""
        try:
            while self.waiting:
                with memoryview(self.waiting) as view:
                    sent = self.connection.send(view[:PIECE])
                del self.waiting[:sent]
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except (OSError, ValueError):
            self.is_gone = True
            self.waiting.clear()

    def close(self) -> None:
        self.connection.close()


def copy(bridge: socket.socket, server: socket.socket, until: Callable[[], float | None]) -> bool:
    """Copy until one side has ended or `until` (monotonic seconds) has come. Both are closed then. Returns whether it
    was the time that ended it.
    """
    one, other = _Side(bridge), _Side(server)
    with selectors.DefaultSelector() as selector:
        try:
            return _copy(selector, one, other, until)
        finally:
            one.close()
            other.close()


def _copy(selector: selectors.BaseSelector, bridge: _Side, server: _Side, until: Callable[[], float | None]) -> bool:
    masks = {bridge: 0, server: 0}
    while True:
        now = time.monotonic()
        end = until()
        if end is not None and now >= end:
            return True
        if bridge.has_ended or bridge.is_gone or server.is_gone:
            return False  # nobody is left who could read an answer
        if server.has_ended:
            _flush(bridge)
            return False
        is_ready = False
        for side, peer in ((bridge, server), (server, bridge)):
            takes = len(peer.waiting) < MOST_WAITING
            is_ready = is_ready or (takes and side.has_decrypted)
            wanted = (selectors.EVENT_READ if takes else 0) | (
                selectors.EVENT_WRITE if side.waiting or side.needs_write else 0
            )
            masks[side] = _watch(selector, side, masks[side], wanted)
        timeout = 0.0 if is_ready else None if end is None else end - now
        ready = {key.data: events for key, events in selector.select(timeout)}
        for side, peer in ((bridge, server), (server, bridge)):
            events = ready.get(side, 0)
            if events & selectors.EVENT_WRITE:
                side.write()
            if events or side.has_decrypted:
                _pass_on(side, peer)


def _pass_on(side: _Side, peer: _Side) -> None:
    """Read from one side and send it on at once: most often the other end takes it."""
    while len(peer.waiting) < MOST_WAITING and (data := side.read()):
        peer.waiting += data
        peer.write()


def _watch(selector: selectors.BaseSelector, side: _Side, now: int, wanted: int) -> int:
    if wanted == now:
        return now
    if not now:
        selector.register(side.connection, wanted, side)
    elif not wanted:
        selector.unregister(side.connection)
    else:
        selector.modify(side.connection, wanted, side)
    return wanted


def _flush(side: _Side) -> None:
    """Send what waits, for a short time."""
    try:
        side.connection.settimeout(FLUSH_SECONDS)
        side.connection.sendall(side.waiting)
    except (OSError, ValueError):
        return
