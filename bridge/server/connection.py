"""One client connection: owns the socket, feeds the engine, and runs one task per call. All time-based limits are
enforced here.

The engine says what happened. This module finds the call that it concerns, and writes the bytes once per loop turn.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import assert_never, cast

from bridge.http2.events import (
    ConnectionFailed,
    DataReceived,
    ErrorCode,
    PingAcknowledged,
    RequestReceived,
    StreamReset,
    Violation,
    WindowOpened,
)
from bridge.http2.interface import Engine
from bridge.rpc.call import Handler, Peer, Resolve
from bridge.rpc.errors import ClientGone, Draining, RpcError
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.limits import ConnectionLimits
from bridge.server.call import SEND_STALL, ServedCall
from bridge.server.fair_share import CALLS_AT_ONCE, FairShare
from bridge.server.peer import peer_of
from bridge.server.request import HTTP1_REFUSAL, Refusal, RequestHead, parse_request_head
from bridge.server.response import ResponseFields
from bridge.server.uploads import Uploads

_logger = logging.getLogger(__name__)

_OUTPUT_HIGH = 1 << 20
"""Unsent bytes above which nothing is read from the client. It must read answers before it asks for more."""
_KEEPALIVE_PING = b"bridgeka"
_DRAIN_PING = b"bridgedr"
_DRAIN_PING_WAIT = 5.0
"""Seconds until the second GOAWAY if the client does not answer the PING (as grpc-go waits)."""
_AGE_JITTER = 0.1
_ABORTS_AT_ONCE = 50
_LINGER = 0.5
"""Seconds that a client has to read the last frames and close too. What it still sends is dropped."""
_MOST_DROPPED = 16 << 20
"""Bytes."""
_CANCELLED = "the client cancelled the call"
_BROKEN = "the client broke the protocol"


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What all connections of a server share."""

    handler: Handler
    resolve: Resolve
    figures: BridgeFigures
    new_engine: Callable[[], Engine]
    limits: ConnectionLimits
    uploads: Uploads
    refused: Callable[[Refusal, Connection], None]
    """Called for every request that is not a gRPC call, with its connection."""
    share: FairShare = field(default_factory=FairShare)


class ConnectionState(Enum):
    OPEN = auto()
    LEAVING = auto()
    """The first GOAWAY is out. Calls that the client sent before it arrived are still served."""
    DRAINING = auto()
    """The second GOAWAY is out: when the last call ends, the connection closes."""
    CLOSED = auto()


class Connection(asyncio.BufferedProtocol):
    """Over TCP, TLS or a Unix socket. Between get_buffer and buffer_updated the loop reads, and with TLS decrypts."""

    def __init__(self, serving: ServerContext, connections: set[Connection]) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = serving.new_engine()
        self.figures = serving.figures
        self.buffers = serving.figures.buffers
        self.uploads = serving.uploads
        self.stream_idle = serving.limits.stream_idle
        self.peer = Peer("unknown")
        self.fields: ResponseFields
        self.is_choked = False
        """Whether the socket accepts no more bytes."""
        self.state = ConnectionState.OPEN
        self._serving = serving
        self._limits = serving.limits
        self._connections = connections
        self.closed: asyncio.Future[None] = self.loop.create_future()
        """Done when the socket is closed."""
        self._calls: dict[int, ServedCall] = {}
        """Calls whose handler has not returned, by stream. This keeps their tasks alive."""
        self._not_grpc: dict[int, tuple[Refusal, float]] = {}
        """Unfinished requests that are not gRPC calls, by stream: the answer that waits for their end, and since when
        it waits.
        """
        self._unread: dict[int, float] = {}
        """Streams whose call is over but whose last bytes the client has not read, with the time when this was first
        seen.
        """
        self._flush_is_due = False
        self._share = serving.share
        self._backlog: deque[tuple[float, bytes]] = deque()
        """Bytes that were read but not yet given to the engine, with the loop's time of the read."""
        self._backlog_size = self._untaken = 0
        """The number of these bytes, and of those that the engine keeps. The other: bytes of replies that the client
        has not read, as counted in the process's buffers.
        """
        self._backlog_since = 0.0
        """The arrival time of the bytes that the engine keeps."""
        self._is_waiting = False
        """Whether the connection waits for its turn. Nothing is read from it then."""
        self._is_paused = False
        """Whether reading from the transport is paused."""
        self._cancelled = 0
        """The number of calls that the client has ended. Like a call that begins, each makes work for later turns."""
        self._light_from = 0.0
        self._read_began = 0.0
        self._dropped = 0
        """Bytes that arrived after the end."""
        self._last_fields: object = None
        """The fields of the last request, and (below) what they say."""
        self._last_head: RequestHead | Refusal = HTTP1_REFUSAL
        self._transport: asyncio.Transport
        # The clock of these limits is the loop's: coarse, and read once a turn.
        self._opened = self._last_received = self._idle_since = self._state_since = 0.0
        self._choked_since = self._pinged_at = 0.0
        self._block_since: float | None = None
        """The time when the open header block began."""
        self._max_age: float | None = None
        self._lingering: asyncio.TimerHandle | None = None

    # -- the socket ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports have the methods of asyncio.Transport but do not inherit from it.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_OUTPUT_HIGH)
        self.peer = peer_of(transport)
        self.fields = ResponseFields(self.engine, self.figures, self.peer.address)
        now = self.loop.time()
        self._opened = self._last_received = self._idle_since = self._state_since = now
        if self._limits.max_age is not None:
            # Spread the clients of a fleet over time, and so over its replicas (gRFC A9).
            self._max_age = self._limits.max_age * random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311 - no secret
        self._connections.add(self)
        self.figures.connections_open += 1
        self.figures.connections_accepted += 1
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self.state = ConnectionState.CLOSED
        self._connections.discard(self)
        self.figures.connections_open -= 1
        self._count_untaken(0)
        self._drop_backlog()
        for stream_id in tuple(self.engine.open_streams):
            self.engine.reset(stream_id, ErrorCode.CANCEL)  # releases what waits for the client's windows
        self.abort_calls(ClientGone("the connection was lost"))
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.is_choked = True
        self._choked_since = self.loop.time()
        # A client that does not read our bytes gets no more work from us. This stops floods of PING or RST.
        self._pace_reading()

    def resume_writing(self) -> None:
        self.is_choked = False
        self._pace_reading()
        if self.has_work_left and not self._is_waiting:
            self._wait_for_turn()
        self._look_at_untaken()
        for call in tuple(self._calls.values()):
            call.transport_drained()

    def _pace_reading(self) -> None:
        """Read only while the bytes can be served."""
        is_paused = self.is_choked or self._is_waiting
        if is_paused is self._is_paused or self._transport.is_closing():
            return
        self._is_paused = is_paused
        if is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # -- reading ------------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """All connections read into one small buffer, so one read is one connection's and short."""
        del sizehint  # the loop's hint for a buffer of its own size
        self._read_began = monotonic()
        return self._share.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._read(bytes(self._share.buffer()[:nbytes]))

    def received(self, data: bytes) -> None:
        """Serve these bytes now, or keep them until this connection's turn."""
        self._read_began = monotonic()
        self._read(data)

    def _read(self, data: bytes) -> None:
        if self.state is ConnectionState.CLOSED:
            self._drop(len(data))
            return
        self._last_received = now = self.loop.time()
        began, share = self._read_began, self._share
        if self._is_waiting or not share.has_time(self._light_from, now=now, began=began):
            self._keep_for_later(data, now)
            return
        figures = self.figures
        before = figures.streams_open + self._cancelled
        self._receive(data, now)
        touched = figures.streams_open + self._cancelled - before
        self._light_from = share.light_from(began, touched)
        if self.engine.has_backlog:
            self._keep_rest(len(data), now)

    def _keep_for_later(self, data: bytes, now: float) -> None:
        self._backlog.append((now, data))
        self._count_backlog(len(data))
        if not self._is_waiting:
            self._wait_for_turn()

    def _keep_rest(self, size: int, now: float) -> None:
        """Note that the engine has kept some of these bytes."""
        if self.state is not ConnectionState.CLOSED:
            self._backlog_since = now
            self._count_backlog(size)
            self._wait_for_turn()

    def _count_backlog(self, size: int) -> None:
        self._backlog_size += size
        self._share.waiting_bytes += size
        if size > 0:
            self.buffers.held += size
        else:
            self.buffers.give_back(-size)

    def _drop_backlog(self) -> None:
        self._backlog.clear()
        self._count_backlog(-self._backlog_size)

    def _wait_for_turn(self) -> None:
        self._is_waiting = True
        self._pace_reading()
        self._share.wait(self)

    @property
    def has_work_left(self) -> bool:
        """Whether bytes wait for this connection's turn, or replies that the client's windows now allow."""
        return self.engine.has_backlog or bool(self._backlog)

    @property
    def is_behind(self) -> bool:
        """Whether the connection goes on waiting for turns. If its client does not read our bytes, it waits for that
        instead.
        """
        return self._is_waiting

    def go_on(self, until: float) -> int:
        """Serve some of what waits. See fair_share.Waiting."""
        before = self.figures.streams_open + self._cancelled
        touched = 0
        while self.state is not ConnectionState.CLOSED and not self.is_choked:
            if self.engine.has_backlog:
                self._receive(b"", self._backlog_since)
            elif self._backlog:
                self._backlog_since, data = self._backlog.popleft()
                self._receive(data, self._backlog_since)
            else:
                break
            touched = self.figures.streams_open + self._cancelled - before
            if touched >= CALLS_AT_ONCE or monotonic() >= until:
                break
        if self.state is ConnectionState.CLOSED:
            self._drop_backlog()
        elif not self.has_work_left:
            self._count_backlog(-self._backlog_size)
        self._is_waiting = self.has_work_left and not self.is_choked and self.state is not ConnectionState.CLOSED
        self._pace_reading()
        return touched

    def _drop(self, size: int) -> None:
        """Drop bytes of a client that has not yet seen that the connection is over. Abort if there are too many."""
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            self._transport.abort()

    def _receive(self, data: bytes, now: float) -> None:
        """Let the engine read the bytes, and act on its events. `now` is when the bytes arrived."""
        events = self.engine.receive(data, now=now)
        if not self.engine.has_open_block:
            self._block_since = None
        elif self._block_since is None:
            self._block_since = now
        calls = self._calls
        for event in events:  # a chain of isinstance costs less than match
            if isinstance(event, RequestReceived):
                self._begin(event, now)
            elif isinstance(event, DataReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.body.received(event.data, ended=event.ended, now=now)
                else:
                    self._drop_body(event)
            elif isinstance(event, ConnectionFailed):
                self._fail(event.code, event.reason)
                return
            else:
                self._hear(event)
        if self.engine.has_output or self.state is not ConnectionState.OPEN:
            self.flush_soon()

    def _drop_body(self, event: DataReceived) -> None:
        """Take the body of a request that is over, or that is not a gRPC call."""
        if event.data:
            self.engine.credit(event.stream_id, len(event.data))
        if event.ended:
            self._not_grpc_ended(event.stream_id)

    def _hear(self, event: WindowOpened | StreamReset | PingAcknowledged | Violation) -> None:
        """Act on an event that a common call does not cause."""
        match event:
            case WindowOpened():
                call = self._calls.get(event.stream_id)
                if call is not None:
                    call.window_opened()
            case StreamReset():
                call = self._calls.get(event.stream_id)
                if call is not None:
                    self._cancelled += 1
                    call.abort(ClientGone(_CANCELLED if event.by_peer else _BROKEN))
                else:
                    self._not_grpc.pop(event.stream_id, None)
                self.flush_soon()  # what waited for the client on this stream is no longer held
            case PingAcknowledged():
                if event.data == _DRAIN_PING and self.state is ConnectionState.LEAVING:
                    self._settle()
            case Violation():
                self.figures.protocol_errors[event.kind] += 1
            case _:
                assert_never(event)

    def flush_soon(self) -> None:
        """Send everything queued, once, at the end of this loop turn."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self.flush)

    def flush_for_one(self) -> None:
        """Send what a call has queued: now if it is the only call, else together with the others. Every write is a
        system call.
        """
        if len(self._calls) == 1:
            self.flush()
        elif not self._flush_is_due:
            self.flush_soon()

    def flush(self) -> None:
        self._flush_is_due = False
        if self.state is ConnectionState.CLOSED:
            return
        if self._untaken:
            self._look_at_untaken()  # before the write, because the client may read it at once
        data = self.engine.bytes_to_send()
        if data:
            self._transport.write(data)
        if self.state is ConnectionState.DRAINING and not self._calls and not self.engine.open_streams:
            self.close()

    def count_message(self, size: int) -> None:
        """Count a sent message as unread until the flush of this turn has checked."""
        if self.state is not ConnectionState.CLOSED:  # if no flush follows
            self._untaken += size
            self.buffers.held += size

    def _look_at_untaken(self) -> None:
        """Count the replies that wait in the engine for the client's windows, and in the transport until the client
        reads. Both use the bridge's memory.
        """
        self._count_untaken(self.engine.queued_bytes + self._transport.get_write_buffer_size())

    def _count_untaken(self, untaken: int) -> None:
        buffers = self.buffers
        buffers.held += untaken - self._untaken
        is_less, self._untaken = untaken < self._untaken, untaken
        if is_less and buffers.is_awaited:
            buffers.tell_freed()

    @property
    def is_too_far_behind(self) -> bool:
        """Whether the buffers are full but for the part kept for other calls, and replies that this client does not
        read fill much of them.
        """
        buffers = self.buffers
        return buffers.held > buffers.for_unread and self._untaken > buffers.much_for_one

    def _fail(self, code: int, reason: str) -> None:
        self.flush()
        self.close()
        self.abort_calls(ClientGone(_BROKEN))
        if code == ErrorCode.HTTP_1_1_REQUIRED:
            self._serving.refused(HTTP1_REFUSAL, self)
        elif code:
            _logger.debug("connection from %s ended: %s", self.peer.address, reason)

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, so that none is lost if the connection ends."""
        return not self._calls and not self.engine.open_streams and not self.has_work_left

    def close(self) -> None:
        """Send what is queued, announce the end, and close when the client has closed, or after a short time.

        Closing a socket with unread bytes resets the connection. The client then loses what it has not read: a GOAWAY,
        or the end of a reply.
        """
        if self.state is ConnectionState.CLOSED:
            return
        self._enter(ConnectionState.CLOSED)
        transport = self._transport
        if transport.is_closing():
            return
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        if transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:  # asyncio's loop raises this when the client has gone
                transport.close()
                return
        self._lingering = self.loop.call_later(_LINGER, transport.close)

    def end(self) -> None:
        """Close without waiting for calls. GOAWAY and everything queued are sent first."""
        if self.state in (ConnectionState.OPEN, ConnectionState.LEAVING):
            self._settle()
        self.flush()
        self.close()

    def kill(self) -> None:
        """Close without sending what is queued."""
        self._enter(ConnectionState.CLOSED)
        self._transport.abort()

    # -- calls --------------------------------------------------------------------------------------------------------

    def _begin(self, event: RequestReceived, now: float) -> None:
        if event.fields is not self._last_fields:
            # Engines return the same tuple for the same block, so most calls need not read it again.
            self._last_fields, self._last_head = event.fields, parse_request_head(event.fields)
        head = self._last_head
        if isinstance(head, Refusal):
            self.figures.protocol_errors[head.kind] += 1
            self._serving.refused(head, self)
            if not head.is_not_grpc:
                self.engine.send(event.stream_id, end=head.fields)
            elif event.ended:
                self._answer_not_grpc(event.stream_id, head)
            else:
                self._not_grpc[event.stream_id] = (head, now)
            return
        serving = self._serving
        call = ServedCall.begin(self, event.stream_id, head, serving.resolve(head.path), now=monotonic())
        self._calls[event.stream_id] = call
        self.figures.streams_open += 1
        if event.ended:
            call.body.received(b"", ended=True, now=now)
        call.task = self.loop.create_task(call.serve(serving.handler))

    def _answer_not_grpc(self, stream_id: int, refusal: Refusal) -> None:
        """Answer as HTTP servers do: with a body, once the request has ended. The gRPC status follows it."""
        self.engine.send(stream_id, head=refusal.head, body=refusal.text, end=refusal.end)

    def _not_grpc_ended(self, stream_id: int) -> None:
        refusal, _ = self._not_grpc.pop(stream_id, (None, 0.0))
        if refusal is not None:
            self._answer_not_grpc(stream_id, refusal)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of all calls whose handler has not returned."""
        return [call.task for call in self._calls.values() if call.task is not None]

    def forget(self, stream_id: int) -> None:
        """Forget the call: its handler has returned, and its task is done."""
        calls = self._calls
        del calls[stream_id]
        self.figures.streams_open -= 1
        if not calls:
            self._idle_since = self.loop.time()
            if self.state is ConnectionState.DRAINING:
                self.flush_soon()

    def abort_calls(self, cause: RpcError) -> None:
        """End all calls, some in each turn of the loop. Ending a thousand at once would delay other connections."""
        left = [each for each in self._calls.values() if each.cause is None and each.status is None]
        for call in left[:_ABORTS_AT_ONCE]:
            call.abort(cause)
        if len(left) > _ABORTS_AT_ONCE:
            self.loop.call_soon(self.abort_calls, cause)

    # -- leaving ------------------------------------------------------------------------------------------------------

    def leave(self, reason: bytes = b"") -> None:
        """Begin a drain. No call is lost, and the client sends new ones elsewhere (RFC 9113 6.8, two GOAWAYs)."""
        if self.state is not ConnectionState.OPEN:
            return
        if not self.engine.has_handshaken:
            self._enter(ConnectionState.CLOSED)
            self._transport.close()  # it has no calls, and could not read a GOAWAY
            return
        self._enter(ConnectionState.LEAVING)
        self.engine.announce_goaway(reason)
        self.engine.ping(_DRAIN_PING)
        self.flush()

    def _settle(self) -> None:
        self._enter(ConnectionState.DRAINING)
        self.engine.goaway()
        self.flush_soon()

    def _enter(self, state: ConnectionState) -> None:
        self.state = state
        self._state_since = self.loop.time()

    # -- time ---------------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Check all limits of time. The server calls this about once a second, with the loop's time."""
        limits = self._limits
        in_state = now - self._state_since
        if self.state is not ConnectionState.CLOSED:
            self._look_at_untaken()
        if self.state is ConnectionState.CLOSED:
            if in_state > limits.write_stall:
                self.kill()  # the client does not read the last bytes either
        elif self.is_choked:
            if now - self._choked_since > limits.write_stall:
                self._give_up("write_stall")
                self.kill()
        elif not self.engine.has_handshaken and now - self._opened > limits.handshake:
            self._give_up("handshake_timeout")
        elif self._block_since is not None and now - self._block_since > limits.handshake:
            self._give_up("header_timeout")
        elif self.state is ConnectionState.LEAVING and in_state > _DRAIN_PING_WAIT:
            self._settle()
        elif self.state is ConnectionState.DRAINING and in_state > limits.grace:
            self._end_grace()
        elif self.state is ConnectionState.OPEN:
            self._check_age(now)
            self._check_alive(now)
        self._end_unread(now)
        for call in tuple(self._calls.values()):
            call.check_age(now)
        for stream_id, (_, since) in tuple(self._not_grpc.items()):
            if now - since > limits.handshake:
                self._not_grpc_ended(stream_id)
                self.flush_soon()

    def _end_grace(self) -> None:
        if self._calls:
            self.abort_calls(Draining("the connection was closed for its age; call again"))
        else:
            self.close()  # a tick later: the final frames had time to leave

    def _end_unread(self, now: float) -> None:
        """Bound the time that the reply of a finished call may wait for the client's window."""
        unread = [stream_id for stream_id in self.engine.open_streams if stream_id not in self._calls]
        self._unread = {stream_id: self._unread.get(stream_id, now) for stream_id in unread}
        for stream_id, since in self._unread.items():
            if now - since > SEND_STALL:
                self.figures.protocol_errors["unread_reply"] += 1
                self.engine.reset(stream_id, ErrorCode.CANCEL)
                self.flush_soon()

    def _check_age(self, now: float) -> None:
        if self._max_age is not None and now - self._opened > self._max_age:
            self.leave(b"max_age")
        elif self._limits.idle is not None and not self._calls and now - self._idle_since > self._limits.idle:
            self.leave(b"max_idle")

    def _check_alive(self, now: float) -> None:
        interval, silent = self._limits.keepalive_interval, now - self._last_received
        if self._pinged_at > self._last_received:
            if now - self._pinged_at > self._limits.keepalive_timeout:
                self._give_up("keepalive_timeout")
        elif interval is not None and silent > interval:
            self._pinged_at = now
            self.engine.ping(_KEEPALIVE_PING)
            self.flush()

    def _give_up(self, kind: str) -> None:
        self.figures.protocol_errors[kind] += 1
        _logger.debug("connection from %s closed: %s", self.peer.address, kind)
        self.engine.goaway(ErrorCode.NO_ERROR, kind.encode())
        self.flush()
        self.close()
        self.abort_calls(ClientGone(f"the connection was closed: {kind}"))
