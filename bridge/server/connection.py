"""One client connection: owns the socket, feeds the engine, runs a task per call. All time-based limits live here.

The engine says what happened; this module decides which call it concerns and when bytes leave: once per loop turn.
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
from bridge.server.call import SEND_STALL, ServedCall
from bridge.server.fair_share import CALLS_AT_ONCE, FairShare
from bridge.server.peer import peer_of
from bridge.server.request import HTTP1_REFUSAL, Refusal, RequestHead, parse_head
from bridge.server.uploads import Uploads

_log = logging.getLogger(__name__)

_OUTPUT_HIGH = 1 << 20
"""Unsent bytes above which the client is not read from: it must take answers before it asks for more."""
_KEEPALIVE_PING = b"bridgeka"
_DRAIN_PING = b"bridgedr"
_DRAIN_PING_WAIT = 5.0
"""Seconds until the second GOAWAY if the client does not answer the PING (as grpc-go waits)."""
_AGE_JITTER = 0.1
_ABORTS_AT_ONCE = 50
_LINGER = 0.5
"""Seconds that a client has to read our last frames and close, too. What it still sends is dropped."""
_MOST_DROPPED = 16 << 20
"""Bytes."""
_CANCELLED = "the client cancelled the call"
_BROKEN = "the client broke the protocol"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a connection may take for what. Seconds; None: no limit."""

    handshake: float = 10.0
    """From the connection to its SETTINGS; also the silence allowed inside a header block, and the end of a request that is no call."""
    write_stall: float = 60.0
    keepalive_interval: float | None = 300.0
    keepalive_timeout: float = 20.0
    max_age: float | None = None
    idle: float | None = None
    stream_idle: float | None = 300.0
    """How long a call may take until the first byte of a message, where its target takes requests whole."""
    grace: float = 25.0
    """How long calls may finish on a connection that is too old."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What all connections of a server share."""

    handler: Handler
    resolve: Resolve
    figures: BridgeFigures
    new_engine: Callable[[], Engine]
    limits: ConnectionLimits
    uploads: Uploads
    refused: Callable[[Refusal, Connection], None]
    """Told of each request that is no call, and where it came."""
    share: FairShare = field(default_factory=FairShare)


class State(Enum):
    OPEN = auto()
    LEAVING = auto()
    """Told to go elsewhere; calls that cross the first GOAWAY are still served."""
    DRAINING = auto()
    """The second GOAWAY is out: when the last call ends, the connection closes."""
    CLOSED = auto()


class Connection(asyncio.BufferedProtocol):
    """Over TCP, TLS or a Unix socket. Between get_buffer and buffer_updated the loop reads, and with TLS decrypts."""

    def __init__(self, serving: Serving, connections: set[Connection]) -> None:
        self.loop = asyncio.get_running_loop()
        self.engine = serving.new_engine()
        self.figures = serving.figures
        self.buffers = serving.figures.buffers
        self.peer = Peer("unknown")
        self.is_choked = False
        """Whether the socket takes no more bytes."""
        self.has_told_cut = False
        """Whether the log has been told that fields are cut down for this client."""
        self.state = State.OPEN
        self._serving = serving
        self._limits = serving.limits
        self._connections = connections
        self.closed: asyncio.Future[None] = self.loop.create_future()
        """Done when the socket is."""
        self._calls: dict[int, ServedCall] = {}
        """Those whose handler has not returned, by stream. Nobody else holds on to their tasks."""
        self._not_grpc: dict[int, tuple[Refusal, float]] = {}
        """Requests that are no calls and have not ended, by stream: the answer that waits for that, and since when."""
        self._unread: dict[int, float] = {}
        """Streams whose call is over but whose last bytes the client has not taken: seen first when."""
        self._flush_is_due = False
        self._share = serving.share
        self._backlog: deque[tuple[float, bytes]] = deque()
        """What has been read and not been given to the engine, with the loop's time when it came."""
        self._backlog_size = 0
        """Bytes of it, and of what the engine keeps."""
        self._backlog_since = 0.0
        """When that came which the engine keeps."""
        self._is_waiting = False
        """Whether the connection waits for its turn: nothing is read from it then."""
        self._is_paused = False
        """Whether the transport has been told to read nothing."""
        self._cancelled = 0
        """Calls that their client has ended. Like a call that begins, each makes work for later turns."""
        self._light_from = 0.0
        self._read_began = 0.0
        self._dropped = 0
        """Bytes that came after the end."""
        self._untaken = 0
        """Bytes of replies that the client has not taken, as counted in the process's buffers."""
        self._last_fields: object = None
        self._last_head: RequestHead | Refusal | None = None
        self._transport: asyncio.Transport
        # The clock of these limits is the loop's: coarse, and read once a turn.
        self._opened = self._last_received = self._idle_since = self._state_since = 0.0
        self._choked_since = self._pinged_at = 0.0
        self._block_since: float | None = None
        """When the header block began that is still open."""
        self._max_age: float | None = None
        self._lingering: asyncio.TimerHandle | None = None

    @property
    def uploads(self) -> Uploads:
        return self._serving.uploads

    @property
    def stream_idle(self) -> float | None:
        return self._limits.stream_idle

    # -- the socket ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports have the methods of asyncio.Transport but are none.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_OUTPUT_HIGH)
        self.peer = peer_of(transport)
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
        self.state = State.CLOSED
        self._connections.discard(self)
        self.figures.connections_open -= 1
        self._count_untaken(0)
        self._drop_backlog()
        for stream_id in tuple(self.engine.open_streams):
            self.engine.reset(
                stream_id, ErrorCode.CANCEL
            )  # lets go of what waits for the client's windows
        self.abort_calls(ClientGone("the connection was lost"))
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.is_choked = True
        self._choked_since = self.loop.time()
        # Whoever does not take our bytes gets no more of our work: floods of PING or RST end here.
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
        """Read only where what is read can be served."""
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
        """All connections read into one buffer, which is small: one read is one connection's, however much it has sent."""
        del sizehint  # a size for which others would make a buffer
        self._read_began = monotonic()
        return self._share.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._read(bytes(self._share.buffer()[:nbytes]))

    def received(self, data: bytes) -> None:
        """Serve these bytes, or keep them until this connection's turn comes."""
        self._read_began = monotonic()
        self._read(data)

    def _read(self, data: bytes) -> None:
        if self.state is State.CLOSED:
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
        """The engine has kept some of these bytes."""
        if self.state is not State.CLOSED:
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
        """Whether bytes, or replies that the client's windows let go, wait for this connection's turn."""
        return self.engine.has_backlog or bool(self._backlog)

    @property
    def is_behind(self) -> bool:
        """Whether the connection goes on waiting for turns. One whose client does not take our bytes waits for that instead."""
        return self._is_waiting

    def go_on(self, until: float) -> int:
        """Serve some of what waits; see fair_share.Waiting."""
        before = self.figures.streams_open + self._cancelled
        touched = 0
        while self.state is not State.CLOSED and not self.is_choked:
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
        if self.state is State.CLOSED:
            self._drop_backlog()
        elif not self.has_work_left:
            self._count_backlog(-self._backlog_size)
        self._is_waiting = self.has_work_left and not self.is_choked and self.state is not State.CLOSED  # fmt: skip
        self._pace_reading()
        return touched

    def _drop(self, size: int) -> None:
        """The client has not seen yet that this is over."""
        self._dropped += size
        if self._dropped > _MOST_DROPPED:
            self._transport.abort()

    def _receive(self, data: bytes, now: float) -> None:
        """Let the engine read, and act on what it says. `now`: when the bytes came."""
        events = self.engine.receive(data, now=now)
        if not self.engine.has_open_block:
            self._block_since = None
        elif self._block_since is None:
            self._block_since = now
        calls = self._calls
        for event in events:
            match event:  # classes alone: patterns for what is in them cost a tenth of a call
                case RequestReceived():
                    self._begin(event, now)
                case DataReceived():
                    call = calls.get(event.stream_id)
                    if call is not None:
                        call.received(event.data, ended=event.ended, now=now)
                    else:
                        if event.data:
                            self.engine.credit(event.stream_id, len(event.data))
                        if event.ended:
                            self._not_grpc_ended(event.stream_id)
                case WindowOpened():
                    call = calls.get(event.stream_id)
                    if call is not None:
                        call.window_opened()
                case StreamReset():
                    call = calls.get(event.stream_id)
                    if call is not None:
                        self._cancelled += 1
                        call.abort(ClientGone(_CANCELLED if event.by_peer else _BROKEN))
                    else:
                        self._not_grpc.pop(event.stream_id, None)
                    self.flush_soon()  # what waited for the client on it is not held any more
                case PingAcknowledged():
                    if event.data == _DRAIN_PING and self.state is State.LEAVING:
                        self._settle()
                case Violation():
                    self.figures.protocol_errors[event.kind] += 1
                case ConnectionFailed():
                    self._fail(event.code, event.reason)
                    return
                case _:
                    assert_never(event)
        if self.engine.has_output or self.state is not State.OPEN:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Send what is queued at the end of this loop turn, all at once."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self.loop.call_soon(self.flush)

    def flush_for_one(self) -> None:
        """Send what a call has queued: now if it is alone, else with what others queue in this turn. Every write is a system call."""
        if len(self._calls) == 1:
            self.flush()
        elif not self._flush_is_due:
            self.flush_soon()

    def flush(self) -> None:
        self._flush_is_due = False
        if self.state is State.CLOSED:
            return
        if self._untaken:
            self._look_at_untaken()  # before the write, which the client may take at once
        data = self.engine.bytes_to_send()
        if data:
            self._transport.write(data)
        if self.state is State.DRAINING and not self._calls and not self.engine.open_streams:
            self.close()

    def count_message(self, size: int) -> None:
        """A message was sent: it counts as untaken until the turn's flush has looked."""
        if self.state is not State.CLOSED:  # where no flush follows
            self._untaken += size
            self.buffers.held += size

    def _look_at_untaken(self) -> None:
        """Replies wait in the engine for the client's windows and in the transport for its reading: both are memory of ours."""
        self._count_untaken(self.engine.queued_bytes + self._transport.get_write_buffer_size())

    def _count_untaken(self, untaken: int) -> None:
        buffers = self.buffers
        buffers.held += untaken - self._untaken
        is_less, self._untaken = untaken < self._untaken, untaken
        if is_less and buffers.is_awaited:
            buffers.tell_freed()

    @property
    def is_too_far_behind(self) -> bool:
        """Whether the buffers are full but for what is kept for other calls, and much that this client does not take is among what fills them."""
        buffers = self.buffers
        return buffers.held > buffers.for_unread and self._untaken > buffers.much_for_one

    def _fail(self, code: int, reason: str) -> None:
        self.flush()
        self.close()
        self.abort_calls(ClientGone(_BROKEN))
        if code == ErrorCode.HTTP_1_1_REQUIRED:
            self._serving.refused(HTTP1_REFUSAL, self)
        elif code:
            _log.debug("connection from %s ended: %s", self.peer.address, reason)

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, so that none is lost if the connection ends."""
        return not self._calls and not self.engine.open_streams and not self.has_work_left

    def close(self) -> None:
        """Send what is queued, say that nothing follows, and close when the client has, or soon.

        A socket that is closed while bytes have not been read resets the connection, and with it what the client has not read:
        a GOAWAY, or the end of a reply.
        """
        if self.state is State.CLOSED:
            return
        self._enter(State.CLOSED)
        transport = self._transport
        if transport.is_closing():
            return
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        if transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:  # from asyncio's own loop: the client has gone
                transport.close()
                return
        self._lingering = self.loop.call_later(_LINGER, transport.close)

    def end(self) -> None:
        """Close without waiting for calls; GOAWAY and what is queued go out first."""
        if self.state in (State.OPEN, State.LEAVING):
            self._settle()
        self.flush()
        self.close()

    def kill(self) -> None:
        """Close without sending what is queued."""
        self._enter(State.CLOSED)
        self._transport.abort()

    # -- calls --------------------------------------------------------------------------------------------------------

    def _begin(self, event: RequestReceived, now: float) -> None:
        if event.fields is not self._last_fields:
            # Engines hand out the same tuple for the same block, so most calls skip the reading.
            self._last_fields, self._last_head = event.fields, parse_head(event.fields)
        head = self._last_head
        assert head is not None
        if isinstance(head, Refusal):
            self.figures.protocol_errors[head.kind] += 1
            self._serving.refused(head, self)
            if not head.is_not_grpc:
                self.engine.send_trailers(event.stream_id, head.fields)
            elif event.ended:
                self._answer_not_grpc(event.stream_id, head)
            else:
                self._not_grpc[event.stream_id] = (head, now)
            return
        serving = self._serving
        call = ServedCall(self, event.stream_id, head, serving.resolve(head.path), now=monotonic())
        self._calls[event.stream_id] = call
        self.figures.streams_open += 1
        if event.ended:
            call.received(b"", ended=True, now=now)
        call.task = self.loop.create_task(call.serve(serving.handler))

    def _answer_not_grpc(self, stream_id: int, refusal: Refusal) -> None:
        """As HTTP servers do: an answer with a body, when the request has ended. gRPC's own status is behind it."""
        self.engine.send_headers(stream_id, refusal.head)
        self.engine.send_data(stream_id, refusal.text)
        self.engine.send_trailers(stream_id, refusal.end)

    def _not_grpc_ended(self, stream_id: int) -> None:
        refusal, _ = self._not_grpc.pop(stream_id, (None, 0.0))
        if refusal is not None:
            self._answer_not_grpc(stream_id, refusal)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """One for each call whose handler has not returned."""
        return [call.task for call in self._calls.values()]

    def forget(self, stream_id: int) -> None:
        """The call's handler has returned, and its task does nothing more."""
        calls = self._calls
        del calls[stream_id]
        self.figures.streams_open -= 1
        if not calls:
            self._idle_since = self.loop.time()
            if self.state is State.DRAINING:
                self.flush_soon()

    def abort_calls(self, cause: RpcError) -> None:
        """End all calls, some in each turn of the loop: the ends of a thousand at once would hold up the others."""
        left = [each for each in self._calls.values() if each.cause is None and each.status is None]
        for call in left[:_ABORTS_AT_ONCE]:
            call.abort(cause)
        if len(left) > _ABORTS_AT_ONCE:
            self.loop.call_soon(self.abort_calls, cause)

    # -- leaving ------------------------------------------------------------------------------------------------------

    def leave(self, reason: bytes = b"") -> None:
        """Begin a drain: no call is lost, new ones go elsewhere (RFC 9113 6.8, two GOAWAYs)."""
        if self.state is not State.OPEN:
            return
        if not self.engine.has_handshaken:
            self._enter(State.CLOSED)
            self._transport.close()  # it has no calls, and could not read a GOAWAY
            return
        self._enter(State.LEAVING)
        self.engine.announce_goaway(reason)
        self.engine.ping(_DRAIN_PING)
        self.flush()

    def _settle(self) -> None:
        self._enter(State.DRAINING)
        self.engine.goaway()
        self.flush_soon()

    def _enter(self, state: State) -> None:
        self.state = state
        self._state_since = self.loop.time()

    # -- time ---------------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Called about once a second, with the loop's time."""
        limits = self._limits
        in_state = now - self._state_since
        if self.state is not State.CLOSED:
            self._look_at_untaken()
        if self.state is State.CLOSED:
            if in_state > limits.write_stall:
                self.kill()  # the last bytes are not taken either
        elif self.is_choked:
            if now - self._choked_since > limits.write_stall:
                self._give_up("write_stall")
                self.kill()
        elif not self.engine.has_handshaken and now - self._opened > limits.handshake:
            self._give_up("handshake_timeout")
        elif self._block_since is not None and now - self._block_since > limits.handshake:
            self._give_up("header_timeout")
        elif self.state is State.LEAVING and in_state > _DRAIN_PING_WAIT:
            self._settle()
        elif self.state is State.DRAINING and in_state > limits.grace:
            self._end_grace()
        elif self.state is State.OPEN:
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
            self.close()  # a tick later: the last words have had their time

    def _end_unread(self, now: float) -> None:
        """The call is over and counts no more, but its reply waits for the client's window: not for ever."""
        unread = [
            stream_id for stream_id in self.engine.open_streams if stream_id not in self._calls
        ]
        self._unread = {stream_id: self._unread.get(stream_id, now) for stream_id in unread}
        for stream_id, since in self._unread.items():
            if now - since > SEND_STALL:
                self.figures.protocol_errors["unread_reply"] += 1
                self.engine.reset(stream_id, ErrorCode.CANCEL)
                self.flush_soon()

    def _check_age(self, now: float) -> None:
        if self._max_age is not None and now - self._opened > self._max_age:
            self.leave(b"max_age")
        elif (
            self._limits.idle is not None
            and not self._calls
            and now - self._idle_since > self._limits.idle
        ):
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
        _log.debug("connection from %s closed: %s", self.peer.address, kind)
        self.engine.goaway(ErrorCode.NO_ERROR, kind.encode())
        self.flush()
        self.close()
        self.abort_calls(ClientGone(f"the connection was closed: {kind}"))
