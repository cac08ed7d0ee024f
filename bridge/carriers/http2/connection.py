"""One HTTP/2 connection to a server. It carries many calls at once, over any transport, whichever side opened it.

In: header lists and bodies of calls; what the loop reads. Out: to a Sink, the response of its stream as it comes; to
the owner, when the connection can take more streams and when it is gone. The engine reads the bytes. All time limits
are kept here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

from bridge.carriers.http2 import losses
from bridge.carriers.http2.liveness import ConnectionTimes, Liveness, LivenessDue
from bridge.carriers.http2.sending import Backpressure, SentStreams
from bridge.carriers.http2.sinks import STREAM_EVENTS, Sink, Sinks
from bridge.http2.client import ClientEngine
from bridge.http2.client_events import CapacityChanged, ClientEvent, ConnectionReady, GoingAway
from bridge.http2.client_limits import ClientLimits
from bridge.http2.events import (
    ConnectionFailed,
    ErrorCode,
    Fields,
    PingAcknowledged,
)
from bridge.rpc.errors import RpcError

WRITE_PIECE = 16 << 10
"""Bytes that the engine reads in one turn of the loop. The rest waits, so that others get their turn."""

FLUSHED_AT = 64 << 10
"""Body bytes from which on they are written at once, not at the end of the loop's turn."""

_PING = b"bridgeka"

_logger = logging.getLogger(__name__)


class Http2ConnectionOwner(Protocol):
    """The owner of a connection."""

    name: str
    """The server's name in messages."""

    def changed(self, connection: Http2Connection) -> None:
        """Look again at the connection: it can take more streams, or fewer."""
        ...

    def lost(self, connection: Http2Connection) -> None: ...


class Http2Connection(asyncio.Protocol):
    """A connection. Call `wait_until_ready` first."""

    def __init__(
        self,
        owner: Http2ConnectionOwner,
        *,
        limits: ClientLimits | None = None,
        times: ConnectionTimes | None = None,
        asks_tcp: bool = True,
    ) -> None:
        """`asks_tcp`: whether a call that was written counts as not begun if TCP tells that it never arrived. Belongs
        to the running loop.
        """
        self.loop = asyncio.get_running_loop()
        self.reserved = 0
        """Streams promised to callers that have not opened them yet."""
        self._owner = owner
        self._liveness = Liveness(times or ConnectionTimes())
        self._sent = SentStreams()
        self._asks_tcp = asks_tcp
        self._backpressure = Backpressure()
        self._engine = ClientEngine(limits or ClientLimits())
        self._sinks = Sinks(owner.name)
        self._transport: asyncio.Transport
        self._ready: asyncio.Future[None] = self.loop.create_future()
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._is_over = False
        self._is_flush_due = False
        self._unflushed = 0
        """Body bytes that the engine has been given since the last flush."""
        self._unread = b""
        """Bytes that wait for the next turns of the loop."""
        self._look: asyncio.TimerHandle | None = None

    # -- for the owner -------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How many more streams may be opened."""
        return 0 if self._is_over else self._engine.capacity - self.reserved

    @property
    def open_streams(self) -> int:
        """How many calls are under way on it."""
        return len(self._sinks)

    @property
    def can_ever_take_more(self) -> bool:
        """Whether more streams can be opened once others have ended."""
        return not self._is_over and not self._engine.is_going_away

    @property
    def max_streams(self) -> int:
        """How many streams the server accepts at once."""
        return self._engine.max_streams

    async def wait_until_ready(self) -> None:
        """Wait for the server's SETTINGS. Raises Unreachable. The caller bounds the time, and ends the connection."""
        await asyncio.shield(self._ready)

    def stay(self, seconds: float) -> None:
        """Keep the connection open without calls for at least so long."""
        self._liveness.stays_until = self.loop.time() + seconds

    def close(self) -> None:
        """Accept no more calls, and close when the last one has ended."""
        if not self._engine.is_going_away:
            self._engine.goaway()
        self.flush_soon()
        self._close_if_done()

    def abort(self, error: RpcError) -> None:
        """Close now: calls under way fail with this error."""
        self._lose(error)

    async def end(self, error: RpcError) -> None:
        """Send GOAWAY and close now. Calls under way fail with this error. Returns when the transport is closed."""
        self._engine.goaway()
        self._flush()
        self._lose(error)
        await asyncio.wait((self._closed,))

    # -- for the calls -------------------------------------------------------------------------------------------------

    @property
    def peer_max_header_list(self) -> int | None:
        """The largest header list that the server accepts, if it says so (bytes, as RFC 9113 6.5.2 counts)."""
        return self._engine.peer_max_header_list

    def open(self, fields: Fields, sink: Sink) -> int:
        """Begin a stream and return its id. Call it only while `capacity` is above 0."""
        stream_id = self._engine.open(fields)
        self._sinks.add(stream_id, sink)
        self.flush_soon()
        return stream_id

    async def send(self, stream_id: int, data: bytes) -> bool:
        """Queue body bytes. Returns False if some of them wait for the server's windows. Then `has_room` follows,
        unless the stream ends first.
        """
        while self._backpressure.is_choked and not self._is_over:
            await self._backpressure.room()
        has_room = self._engine.send_data(stream_id, data)
        self._unflushed += len(data)
        if self._unflushed >= FLUSHED_AT:
            self._flush()  # written at once: the transport then tells whether it accepts more
        else:
            self.flush_soon()
        return has_room

    def half_close(self, stream_id: int) -> None:
        """End our side of the stream after its queued bytes."""
        self._engine.end(stream_id)
        self.flush_soon()

    def credit(self, stream_id: int, size: int) -> None:
        """Credit this many body bytes: the server may send as many more."""
        if self._engine.credit(stream_id, size):
            self.flush_soon()

    def cancel(self, stream_id: int) -> None:
        """Abandon the stream, if it has not ended."""
        if self._sinks.remove(stream_id):
            self._engine.reset(stream_id, ErrorCode.CANCEL)
            self.flush_soon()
            self._stream_ended()

    # -- for the loop --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transports, but not by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._liveness.begin(self.loop.time())
        self._look = self.loop.call_later(self._liveness.look, self._look_around)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            # Not at once: see Dialer.dial.
            self.loop.call_soon(self._lose, losses.no_alpn(self._owner.name))
            return
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._liveness.received(self.loop.time())
        if self._unread:
            self._unread += data
        elif len(data) <= WRITE_PIECE:
            self._take(data)
        else:
            self._transport.pause_reading()
            self._unread = data
            self._take_piece()

    def _take_piece(self) -> None:
        """Read a part of the waiting bytes. The others follow in the next turns of the loop."""
        if self._is_over:
            return
        piece, self._unread = self._unread[:WRITE_PIECE], self._unread[WRITE_PIECE:]
        self._take(piece)
        if self._unread:
            self.loop.call_soon(self._take_piece)
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self, data: bytes) -> None:
        waiting = self._engine.queued_bytes if self._backpressure.is_choked else 0
        events = self._engine.receive(data, now=self._liveness.last_received)
        if waiting:
            self._backpressure.allowed(waiting - self._engine.queued_bytes)
        for event in events:
            pass_on = STREAM_EVENTS.get(type(event))
            if pass_on is None:
                _ACTIONS[type(event)](self, event)
            elif pass_on(self._sinks, event):
                self._stream_ended()
        if self._engine.has_output:
            self.flush_soon()

    def eof_received(self) -> bool:
        if self._asks_tcp:
            self._sent.closed_by_server(self._transport)
        return False

    def pause_writing(self) -> None:
        self._backpressure.begin(self._transport, self.loop.time())

    def resume_writing(self) -> None:
        self._backpressure.end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._unread and not self._is_over:
            # Read the server's last bytes: they may hold a status.
            self._take(self._unread)
        self._lose(None, exc)
        if not self._closed.done():
            self._closed.set_result(None)

    # -- what the engine says ------------------------------------------------------------------------------------------

    def _on_ready(self, _event: ConnectionReady) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def _on_capacity(self, _event: CapacityChanged) -> None:
        self._owner.changed(self)

    def _on_goaway(self, event: GoingAway) -> None:
        if event.code != ErrorCode.NO_ERROR:
            _logger.warning("%s ends a connection: HTTP/2 error %s", self._owner.name, name_of(event.code))
        self._owner.changed(self)
        self._close_if_done()

    def _on_ping(self, _event: PingAcknowledged) -> None:
        """Note a sign of life: any bytes count."""

    def _on_failed(self, event: ConnectionFailed) -> None:
        was_ready = self._ready.done()
        if was_ready:
            _logger.warning("%s broke HTTP/2, its connection is closed: %s", self._owner.name, event.reason)
        self._flush()
        self._lose(losses.broke_http2(self._owner.name, event.reason, was_ready=was_ready))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _stream_ended(self) -> None:
        if not self._sinks:
            self._liveness.idle_since = self.loop.time()
            self._close_if_done()
        self._owner.changed(self)

    def _close_if_done(self) -> None:
        if self._engine.is_going_away and not self._sinks and not self._is_over:
            self._flush()
            self._lose(None)

    def _lose(self, error: RpcError | None, cause: BaseException | None = None) -> None:
        """End the connection with this error. None means that it was lost."""
        if self._is_over:
            return
        self._is_over = True
        if self._look is not None:
            self._look.cancel()
        self._unread = b""
        if not self._ready.done():
            before = error or losses.closed_early(self._owner.name)
            before.__cause__ = cause
            self._ready.set_exception(before)
            self._ready.exception()  # marks the exception as seen, even if nothing waits for it
        self._sinks.fail_all(lambda stream_id: self._sent.loss_of(stream_id, self._owner.name, error, cause))
        self._backpressure.end()
        self._owner.lost(self)
        self._transport.abort() if error is not None else self._transport.close()

    # -- bytes out -----------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Schedule one write for this turn of the loop."""
        if not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        self._unflushed = 0
        if self._is_over or self._transport.is_closing():
            return
        data = self._engine.bytes_to_send()
        if not data:
            return
        self._sent.wrote(len(data), last_stream=self._engine.last_stream)
        if not self._backpressure.wrote(len(data)):
            self._lose(losses.stalled(self._owner.name))
            return
        self._transport.write(data)

    # -- times ---------------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        now = self.loop.time()
        self._look = self.loop.call_later(self._liveness.look, self._look_around)
        due = self._liveness.due(
            now,
            stalled_for=self._backpressure.stalled_for(self._transport, now),
            has_calls=bool(self._sinks),
            is_reserved=bool(self.reserved),
        )
        if due is LivenessDue.STALLED:
            self._lose(losses.stalled(self._owner.name))
        elif due is LivenessDue.SILENT:
            self._lose(losses.silent(self._owner.name, now - self._liveness.last_received))
        elif due is LivenessDue.IDLE:
            self.close()
        elif due is LivenessDue.PING:
            self._engine.ping(_PING)
            self.flush_soon()


def name_of(code: int) -> str:
    """Return an error code as RFC 9113 section 7 names it."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"0x{code:x}"


# By type of event. These are functions and not bound methods, because a connection that refers to itself would stay
# until the next full collection.
_ACTIONS: dict[type[ClientEvent], Callable[[Http2Connection, Any], None]] = {
    ConnectionReady: Http2Connection._on_ready,  # noqa: SLF001 - this module's own
    CapacityChanged: Http2Connection._on_capacity,  # noqa: SLF001
    GoingAway: Http2Connection._on_goaway,  # noqa: SLF001
    PingAcknowledged: Http2Connection._on_ping,  # noqa: SLF001
    ConnectionFailed: Http2Connection._on_failed,  # noqa: SLF001
}
