"""Divides the loop's time among connections that send faster than they are served, so that they do not delay the
others.

A read with little work is served at once. Anything beyond that waits here. Waiting connections are served one after the
other, for a short time in each turn of the loop. Nothing is read from them meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

from bridge.http2.interface import Engine
from bridge.rpc.buffers import Buffers, Level
from bridge.server.timeouts import ConnectionState

TURN = 0.0015
"""Seconds of work in one loop turn: for reads that are served at once, and again for connections that wait."""
_BRIEF = 0.0003
"""Seconds. A shorter read does not change whether its connection counts as light."""
_LIGHT_SHARE = 20
"""A connection is light if it takes less than this fraction (one in so many) of the loop's time."""
CALLS_AT_ONCE = 20
"""Calls that waiting connections may begin or end in one turn. Most of a call's cost comes in later turns."""
_CALL_COST = 0.0001
"""Seconds that it takes to begin a call and to refuse it."""
_BUFFER_SIZE = 64 << 10
_MOST_WAITING = 4 << 20
"""Waiting bytes of all connections above which reads are small."""
_SMALL_READ = 2 << 10
_MOST_DROPPED = 16 << 20
"""Bytes that a client may still send after the end."""
_CLOSED = ConnectionState.CLOSED


class WaitingConnection(Protocol):
    """A connection that waits for its turn."""

    def go_on(self, until: float) -> int:
        """Do some of the waiting work, until this time (monotonic seconds) or a little longer. Returns how many calls
        began or ended.
        """
        ...

    @property
    def is_behind(self) -> bool:
        """Whether something is left that can be done now."""
        ...


class FairShare:
    """The queue that all connections of a server share."""

    def __init__(self) -> None:
        self._waiting: deque[WaitingConnection] = deque()
        self._turn = -1.0
        """The loop's time when the current turn began. It counts milliseconds, so short turns share one value."""
        self._turn_ends = 0.0
        self._is_scheduled = False
        self._buffer = memoryview(bytearray(_BUFFER_SIZE))
        """The buffer that all connections read into. The bytes of a read are copied at once."""
        self.waiting_bytes = 0
        """Bytes that were read and wait to be served."""

    def buffer(self) -> memoryview:
        """Return the buffer to read into. It is small while much waits, so that the waiting bytes stay bounded."""
        return self._buffer if self.waiting_bytes < _MOST_WAITING else self._buffer[:_SMALL_READ]

    def has_time(self, light_from: float, *, now: float, began: float) -> bool:
        """Whether a read is served at once. `now` is the loop's time, `began` the real time. `light_from` is what
        `light_from` returned for the connection's last reads.
        """
        if now != self._turn:
            self._turn, self._turn_ends = now, began + TURN
        return began < self._turn_ends or began >= light_from

    def light_from(self, began: float, calls: int) -> float:
        """Return the time from which a connection counts as light again, after a read that began then and began or
        ended this many calls. 0 means now.
        """
        ended = monotonic()
        took = ended - began
        if calls:
            self._turn_ends -= calls * _CALL_COST
            took += calls * _CALL_COST
        return ended + took * _LIGHT_SHARE if took > _BRIEF else 0.0

    def wait(self, connection: WaitingConnection) -> None:
        """Serve the connection when its turn comes. It must not be waiting already."""
        self._waiting.append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._is_scheduled = False
        waiting, until, calls = self._waiting, monotonic() + TURN, 0
        for _ in range(len(waiting)):
            connection = waiting.popleft()
            calls += connection.go_on(until)
            if connection.is_behind:
                waiting.append(connection)
            if calls >= CALLS_AT_ONCE or monotonic() >= until:
                break
        if waiting:
            self._schedule()


class Consumer(Protocol):
    """The connection that the bytes are for."""

    is_choked: bool
    state: ConnectionState

    def receive(self, data: bytes, now: float) -> int:
        """Serve the bytes, which arrived at `now` (the loop's time). Returns how many calls began or ended."""
        ...


class Intake:
    """What one client has sent and the engine has not served: it waits here for the connection's turn.

    Nothing is read from a client while its bytes wait, or while it does not read ours.
    """

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
        """Whether the connection waits for its turn. If its client does not read, it waits for that instead."""
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
        """Serve some of what waits. See WaitingConnection."""
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
