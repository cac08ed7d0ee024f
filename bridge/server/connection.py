"""One client connection: owns the socket, feeds the engine, and runs one task per call. All time-based limits are
enforced here.

The engine says what happened. This module finds the call that it concerns, and writes the bytes once per loop turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
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
from bridge.http2.preface import TLS_REASON
from bridge.rpc.call import Handler, Peer, Resolve
from bridge.rpc.errors import ClientGone, Draining
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.limits import ConnectionLimits
from bridge.server.call import SEND_STALL, ServedCall
from bridge.server.callless_streams import CalllessStreams
from bridge.server.fair_share import FairShare, Intake
from bridge.server.open_calls import OpenCalls
from bridge.server.outflow import Outflow
from bridge.server.peer import peer_of
from bridge.server.request import HTTP1_REFUSAL, TLS_REFUSAL, Refusal, RequestHead, parse_request_head
from bridge.server.response import ResponseFields
from bridge.server.timeouts import ConnectionState, Due, Timeouts
from bridge.server.uploads import Uploads

_logger = logging.getLogger(__name__)

_OUTPUT_HIGH = 1 << 20
"""Unsent bytes above which nothing is read from the client. It must read answers before it asks for more."""
_KEEPALIVE_PING = b"bridgeka"
_DRAIN_PING = b"bridgedr"
_LINGER = 0.5
"""Seconds that a client has to read the last frames and close too. What it still sends is dropped."""
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
        self.calls = OpenCalls()
        self.outflow = Outflow(self.engine, self.buffers, self.calls)
        self.is_choked = False
        """Whether the socket accepts no more bytes."""
        self.state = ConnectionState.OPEN
        self.closed: asyncio.Future[None] = self.loop.create_future()
        """Done when the socket is closed."""
        self._serving = serving
        self._connections = connections
        self._transport: asyncio.Transport
        self._times: Timeouts
        self._intake = Intake(self, self.engine, serving.share, self.buffers)
        self._callless = CalllessStreams(self.engine)
        self._cancelled = 0
        """The number of calls that the client has ended. Like a call that begins, each makes work for later turns."""
        self._last_fields: object = None
        """The fields of the last request, and (below) what they say."""
        self._last_head: RequestHead | Refusal = HTTP1_REFUSAL
        self._lingering: asyncio.TimerHandle | None = None

    # -- the socket ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports have the methods of asyncio.Transport but do not inherit from it.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_OUTPUT_HIGH)
        self.peer = peer_of(transport)
        self.fields = ResponseFields(self.engine, self.figures, self.peer.address)
        self._times = Timeouts(self._serving.limits, now=self.loop.time())
        self._intake.start(transport)
        self.outflow.start(transport)
        self._connections.add(self)
        self.figures.connections_open += 1
        self.figures.connections_accepted += 1
        self.outflow.flush()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self._lingering is not None:
            self._lingering.cancel()
        self.state = ConnectionState.CLOSED
        self._connections.discard(self)
        self.figures.connections_open -= 1
        self.outflow.clear()
        self._intake.stop()
        for stream_id in tuple(self.engine.open_streams):
            self.engine.reset(stream_id, ErrorCode.CANCEL)  # releases what waits for the client's windows
        self.calls.abort(ClientGone("the connection was lost"))
        self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.is_choked = True
        self._times.choked_since = self.loop.time()
        # A client that does not read our bytes gets no more work from us. This stops floods of PING or RST.
        self._intake.pace()

    def resume_writing(self) -> None:
        self.is_choked = False
        self._intake.resume()
        self.outflow.look()
        self.calls.transport_drained()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint  # the loop's hint for a buffer of its own size
        return self._intake.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._times.last_received = now = self.loop.time()
        self._intake.buffer_updated(nbytes, now)

    def received(self, data: bytes) -> None:
        """Serve these bytes now, or keep them until this connection's turn."""
        self._times.last_received = now = self.loop.time()
        self._intake.received(data, now)

    # -- the engine ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> int:
        """Let the engine read the bytes, and act on its events. See intake.Consumer."""
        figures, times, engine = self.figures, self._times, self.engine
        before = figures.streams_open + self._cancelled
        events = engine.receive(data, now=now)
        if not engine.has_open_block:
            times.block_since = None
        elif times.block_since is None:
            times.block_since = now
        calls = self.calls
        for event in events:  # a chain of isinstance costs less than match
            if isinstance(event, RequestReceived):
                self._begin(event, now)
            elif isinstance(event, DataReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.received(event.data, ended=event.ended, now=now)
                else:
                    self._callless.received(event)
                    self._flush_soon()
            elif isinstance(event, ConnectionFailed):
                self._fail(event.code, event.reason)
                return figures.streams_open + self._cancelled - before
            else:
                self._hear(event)
        if engine.has_output or self.state is not ConnectionState.OPEN:
            self._flush_soon()
        return figures.streams_open + self._cancelled - before

    def _hear(self, event: WindowOpened | StreamReset | PingAcknowledged | Violation) -> None:
        """Act on an event that a common call does not cause."""
        match event:
            case WindowOpened():
                if event.stream_id in self.calls:
                    self.calls[event.stream_id].window_opened()
            case StreamReset():
                if event.stream_id in self.calls:
                    self._cancelled += 1
                    self.calls[event.stream_id].abort(ClientGone(_CANCELLED if event.by_peer else _BROKEN))
                self._callless.forget(event.stream_id)
                self._flush_soon()  # what waited for the client on this stream is no longer held
            case PingAcknowledged():
                if event.data == _DRAIN_PING and self.state is ConnectionState.LEAVING:
                    self._settle()
            case Violation():
                self.figures.protocol_errors[event.kind] += 1
            case _:
                assert_never(event)

    def _flush_soon(self) -> None:
        if self.state is ConnectionState.OPEN:
            self.outflow.flush_soon()
        else:
            self.loop.call_soon(self._flush_and_close)

    def _flush_and_close(self) -> None:
        """Flush, and end a drain if nothing is left."""
        self.outflow.flush()
        if self.state is ConnectionState.DRAINING and not self.calls and not self.engine.open_streams:
            self.close()

    def _fail(self, code: int, reason: str) -> None:
        self.outflow.flush()
        self.close()
        self.calls.abort(ClientGone(_BROKEN))
        if (refusal := _refusal_of(code, reason)) is not None:
            self._serving.refused(refusal, self)
        elif code:
            _logger.debug("connection from %s ended: %s", self.peer.address, reason)

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, so that none is lost if the connection ends."""
        return not self.calls and not self.engine.open_streams and not self._intake.has_work_left

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
        self._intake.read_on()
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
        self.outflow.flush()
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
            self._callless.refuse(event.stream_id, head, ended=event.ended, now=now)
            self._flush_soon()
            return
        serving, stream_id = self._serving, event.stream_id
        call = ServedCall.begin(self, stream_id, head, serving.resolve(head.path), now=monotonic())
        self.calls[stream_id] = call
        self.figures.streams_open += 1
        if event.ended:
            call.received(b"", ended=True, now=now)
        call.task = self.loop.create_task(call.serve(serving.handler))

    def forget(self, stream_id: int) -> None:
        """Forget the call: its handler has returned, and its task is done."""
        calls = self.calls
        del calls[stream_id]
        self.figures.streams_open -= 1
        if not calls:
            self._times.idle_since = self.loop.time()
            if self.state is ConnectionState.DRAINING:
                self._flush_soon()

    # -- leaving ------------------------------------------------------------------------------------------------------

    def leave(self, reason: bytes = b"") -> None:
        """Begin a drain. No call is lost, and the client sends new ones elsewhere (RFC 9113 6.8, two GOAWAYs)."""
        if self.state is not ConnectionState.OPEN:
            return
        self._enter(ConnectionState.LEAVING)
        self.engine.announce_goaway(reason)
        self.engine.ping(_DRAIN_PING)
        self.outflow.flush()

    def _settle(self) -> None:
        self._enter(ConnectionState.DRAINING)
        self.engine.goaway()
        self._flush_soon()

    def _enter(self, state: ConnectionState) -> None:
        self.state = state
        if state is ConnectionState.CLOSED:
            self.outflow.stop()
        self._times.state_since = self.loop.time()

    # -- time ---------------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """Do what is due. Called about once a second, with the loop's time."""
        self.outflow.look()
        is_new, is_idle = not self.engine.has_handshaken, not self.calls
        due = self._times.due(now, self.state, is_choked=self.is_choked, is_new=is_new, is_idle=is_idle)
        if due is not None:
            self._do(due)
        unread = self._callless.reset_unread(now, calls=self.calls, after=SEND_STALL)
        if unread:
            self.figures.protocol_errors["unread_reply"] += unread
        self.calls.check_age(now)
        if self._callless.answer_unfinished(now, after=self._serving.limits.handshake) or unread:
            self._flush_soon()

    def _do(self, due: Due) -> None:
        match due:
            case Due.KILL:
                self.kill()
            case Due.WRITE_STALL:
                self._give_up(due.value)
                self.kill()
            case Due.HANDSHAKE | Due.HEADER_BLOCK | Due.KEEPALIVE:
                self._give_up(due.value)
            case Due.MAX_AGE | Due.MAX_IDLE:
                self.leave(due.value.encode())
            case Due.SECOND_GOAWAY:
                self._settle()
            case Due.END_OF_GRACE if self.calls:
                self.calls.abort(Draining("the connection was closed for its age; call again"))
            case Due.END_OF_GRACE:
                self.close()  # a tick later: the final frames had time to leave
            case Due.PING:
                self.engine.ping(_KEEPALIVE_PING)
                self.outflow.flush()
            case _:
                assert_never(due)

    def _give_up(self, kind: str) -> None:
        self.figures.protocol_errors[kind] += 1
        _logger.debug("connection from %s closed: %s", self.peer.address, kind)
        self.engine.goaway(ErrorCode.NO_ERROR, kind.encode())
        self.outflow.flush()
        self.close()
        self.calls.abort(ClientGone(f"the connection was closed: {kind}"))


def _refusal_of(code: int, reason: str) -> Refusal | None:
    """Return the refusal for a client that spoke HTTP/1.1, or TLS to a port without it."""
    if code == ErrorCode.HTTP_1_1_REQUIRED:
        return HTTP1_REFUSAL
    return TLS_REFUSAL if reason == TLS_REASON else None
