"""What a client has sent and the engine has not served: it waits here for the connection's turn.

Nothing is read from a client while its bytes wait, or while it does not read ours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

from bridge.http2.interface import Engine
from bridge.rpc.buffers import Buffers, Level
from bridge.server.fair_share import CALLS_AT_ONCE, FairShare
from bridge.server.timeouts import ConnectionState

_MOST_DROPPED = 16 << 20
"""Bytes that a client may still send after the end."""

_CLOSED = ConnectionState.CLOSED


class Consumer(Protocol):
    """The connection that the bytes are for."""

    is_choked: bool
    state: ConnectionState

    def receive(self, data: bytes, now: float) -> int:
        """Serve the bytes, which arrived at `now` (the loop's time). Returns how many calls began or ended."""
        ...


class Intake:
    """Of one connection. It is what waits in FairShare."""

    __slots__ = (
        "_backlog",
        "_consumer",
        "_dropped",
        "_engine",
        "_is_paused",
        "_level",
        "_light_from",
        "_read_began",
        "_share",
        "_since",
        "_transport",
        "is_behind",
    )

    def __init__(self, consumer: Consumer, engine: Engine, share: FairShare, buffers: Buffers) -> None:
        self._consumer: Consumer | None = consumer
        """None after `stop`."""
        self._engine = engine
        self._share = share
        self._transport: asyncio.Transport | None = None
        self._backlog: deque[tuple[float, bytes]] = deque()
        """Bytes that were read but not yet given to the engine, with the loop's time of the read."""
        self._level = Level(buffers)
        """These bytes, and those that the engine keeps."""
        self._since = 0.0
        """The arrival time of the bytes that the engine keeps."""
        self.is_behind = False
        """Whether the connection waits for its turn. If its client does not read our bytes, it waits for that
        instead.
        """
        self._is_paused = False
        """Whether reading from the transport is paused."""
        self._light_from = self._read_began = 0.0
        self._dropped = 0
        """Bytes that arrived after the end."""

    def start(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def stop(self) -> None:
        """Forget what waits: the socket is closed."""
        self._consumer = self._transport = None
        self._drop_backlog()

    @property
    def has_work_left(self) -> bool:
        """Whether bytes wait for the connection's turn, or replies that the client's windows now allow."""
        return self._engine.has_backlog or bool(self._backlog)

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_buffer(self) -> memoryview:
        """Return the buffer to read into. All connections share it, so one read is one connection's and short."""
        self._read_began = monotonic()
        return self._share.buffer()

    def buffer_updated(self, nbytes: int, now: float) -> None:
        """Take so many bytes from the buffer, at this time of the loop."""
        self._read(bytes(self._share.buffer()[:nbytes]), now)

    def received(self, data: bytes, now: float) -> None:
        """Take bytes that came by another way than the buffer."""
        self._read_began = monotonic()
        self._read(data, now)

    def _read(self, data: bytes, now: float) -> None:
        """Serve bytes now, or keep them until this connection's turn."""
        consumer, share, began = self._consumer, self._share, self._read_began
        if consumer is None or consumer.state is _CLOSED:
            self._drop(len(data))
            return
        if self.is_behind or not share.has_time(self._light_from, now=now, began=began):
            self._backlog.append((now, data))
            self._count(len(data))
            if not self.is_behind:
                self._wait_for_turn()
            return
        touched = consumer.receive(data, now)
        self._light_from = share.light_from(began, touched)
        if self._engine.has_backlog and consumer.state is not _CLOSED:
            self._since = now
            self._count(len(data))
            self._wait_for_turn()

    def _drop(self, size: int) -> None:
        """Drop bytes of a client that has not yet seen that the connection is over. Abort if there are too many."""
        self._dropped += size
        if self._dropped > _MOST_DROPPED and self._transport is not None:
            self._transport.abort()

    def pace(self) -> None:
        """Read only while the bytes can be served."""
        consumer, transport = self._consumer, self._transport
        if consumer is None or transport is None:
            return
        is_paused = consumer.is_choked or self.is_behind
        if is_paused is self._is_paused or transport.is_closing():
            return
        self._is_paused = is_paused
        if is_paused:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def resume(self) -> None:
        """Go on: the client reads our bytes again."""
        self.pace()
        if self.has_work_left and not self.is_behind:
            self._wait_for_turn()

    def read_on(self) -> None:
        """Read whatever still comes: the connection is over, and the bytes are dropped."""
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # -- turns --------------------------------------------------------------------------------------------------------

    def _wait_for_turn(self) -> None:
        self.is_behind = True
        self.pace()
        self._share.wait(self)

    def go_on(self, until: float) -> int:
        """Serve some of what waits. See fair_share.Waiting."""
        consumer = self._consumer
        if consumer is None:
            self.is_behind = False
            return 0
        touched = 0
        while consumer.state is not _CLOSED and not consumer.is_choked:
            if self._engine.has_backlog:
                touched += consumer.receive(b"", self._since)
            elif self._backlog:
                self._since, data = self._backlog.popleft()
                touched += consumer.receive(data, self._since)
            else:
                break
            if touched >= CALLS_AT_ONCE or monotonic() >= until:
                break
        if consumer.state is _CLOSED:
            self._drop_backlog()
        elif not self.has_work_left:
            self._count(-self._level.size)
        self.is_behind = self.has_work_left and not consumer.is_choked and consumer.state is not _CLOSED
        self.pace()
        return touched

    def _count(self, size: int) -> None:
        self._share.waiting_bytes += size
        self._level.become(self._level.size + size)

    def _drop_backlog(self) -> None:
        self._backlog.clear()
        self._count(-self._level.size)
