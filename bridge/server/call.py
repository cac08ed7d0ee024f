"""A call on its stream: what its handler and its layers see. It passes what is sent to the connection's engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from bridge.http2.events import ErrorCode, Fields
from bridge.http2.interface import Engine
from bridge.rpc.buffers import Buffers, Holding, cost_of_fields
from bridge.rpc.call import Arrival, Handler, Peer, Route
from bridge.rpc.deadline import NO_TIMER_BEYOND, earliest
from bridge.rpc.errors import BuffersFull, ClientGone, DeadlineExceeded, RequestStalled, RpcError
from bridge.rpc.events import (
    NEXT_PHASE,
    Headers,
    Message,
    Phase,
    ResponseEvent,
    Trailers,
)
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status
from bridge.server.interface import CallConnection
from bridge.server.request import RequestHead
from bridge.server.request_body import GROWTH, GROWTH_TIME, RequestBody
from bridge.server.response import head_fields

SEND_STALL = 300.0
"""Seconds a client may keep its window shut while a message waits for it."""

_NEW, _DONE = Phase.NEW, Phase.DONE


class ServedCall(msgspec.Struct, Holding, eq=False):
    """One call on one stream. Its handler reads from it and sends on it; `body` is its request.

    It accounts for everything held for it, from its request to its reply. A Struct is made in a tenth of the time of
    other classes with so many fields.
    """

    connection: CallConnection
    _engine: Engine
    _id: int
    body: RequestBody
    route: Route
    path: str
    metadata: Metadata
    content_type: str
    authority: str
    peer: Peer
    started: float
    deadline: float | None
    buffers: Buffers
    held: int
    phase: Phase = _NEW
    status: Status | None = None
    cause: RpcError | None = None
    has_ended: bool = False
    bytes_received: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    attempts: int = 0
    throttles: int = 0
    upstream_seconds: float = 0.0
    queued_seconds: float = 0.0
    request_id: str = ""
    is_cold_start: bool = False
    tenant: str = ""
    execution_name: str = ""
    invoke_headers: tuple[tuple[str, str], ...] = ()
    task: asyncio.Task[None] | None = None
    """The task that runs `serve`. The connection creates it."""
    _room: asyncio.Future[None] | None = None
    """Pending while a sender waits for the client's window."""
    _is_running: bool = False
    _is_metadata_counted: bool = False
    _is_full: bool = False
    """Whether sent bytes still wait for the client's window."""

    @staticmethod
    def begin(connection: CallConnection, stream_id: int, head: RequestHead, route: Route, *, now: float) -> ServedCall:
        """Return the call that this head opens. `now` is monotonic."""
        timeout = head.timeout if route.timeout is None else earliest(head.timeout, route.timeout)
        metadata, buffers = head.metadata, connection.buffers
        body = RequestBody(connection, stream_id, route, metadata)
        call = body.account = ServedCall(
            connection,
            connection.engine,
            stream_id,
            body,
            route,
            head.path,
            metadata,
            head.content_type,
            head.authority,
            connection.peer,
            now,
            None if timeout is None else now + timeout,
            buffers,
            buffers.begin_call(),  # even if it does not fit: the call is here, and the layer `admit` refuses it
        )
        return call

    # -- life ---------------------------------------------------------------------------------------------------------

    async def serve(self, handler: Handler) -> None:
        """Run the handler; give back what the call held."""
        self._is_running = True
        try:
            await handler(self)
        finally:
            self.body.close()
            self.close()
            if self.phase is not _DONE and self._engine.is_open(self._id):
                # Only a stopping process or a bug outside rescue ends a call without a status. The client must not wait
                # for more.
                self._engine.reset(self._id, ErrorCode.INTERNAL_ERROR)
                self.connection.outflow.flush_soon()
            self.connection.forget(self._id)

    def abort(self, cause: RpcError) -> None:
        """End the call from outside. Only the first cause counts. A call that has its status already is not changed."""
        if self.cause is not None or self.status is not None:
            return
        self.cause = cause
        # A task cancelled before its first step would run none of the layers. So it starts, and rescue finds the cause.
        if self._is_running and self.task is not None:
            self.task.cancel()

    def check_age(self, now: float) -> None:
        """Count the metadata of a long call. The connection calls this about once a second.

        Ends a call without a deadline that has taken longer than its target ever can.
        """
        if not self._is_metadata_counted:
            # Not done when the call begins, so that calls shorter than a second do not pay for it.
            self._is_metadata_counted = True
            self.hold_anyway(cost_of_fields(self.metadata))
        if not (self.has_ended or self.body.passes_singly):
            self._check_request(now)
        max_call_seconds = self.route.max_call_seconds
        if max_call_seconds is None or now - self.started <= max_call_seconds:
            return
        if self.deadline is None or self.deadline - self.started > NO_TIMER_BEYOND:
            self.abort(DeadlineExceeded(f"the function did not answer within {max_call_seconds:g} s"))

    def _check_request(self, now: float) -> None:
        """End a call whose client opened it and then sends nothing or far too little."""
        idle = self.connection.stream_idle
        if not self.bytes_received:
            if idle is not None and now - self.started > idle:
                self.abort(
                    RequestStalled(
                        f"no message came within {idle:g} s (http2.stream_idle): "
                        "open a call when there is something to send"
                    )
                )
        elif self.body.is_stalled(now):
            self.abort(
                RequestStalled(
                    f"a request message grew by less than {GROWTH} bytes in {GROWTH_TIME:g} s: send it without pauses"
                )
            )

    # -- the request --------------------------------------------------------------------------------------------------

    def received(self, data: bytes, *, ended: bool, now: float) -> None:
        """Take what the client has sent. `now`: the loop's time."""
        self.bytes_received += len(data)
        if ended:
            self.has_ended = True
        self.body.received(data, ended=ended, now=now)

    @property
    def messages_received(self) -> int:
        return self.body.messages

    def arrival(self, of: Arrival) -> Coroutine[Any, Any, None]:
        return self.body.arrival(of)

    def pass_messages(self, *, singly: bool) -> None:
        self.body.pass_messages(singly=singly)

    def read_all(self) -> Coroutine[Any, Any, bytes]:
        return self.body.read_all()

    def read_envelope(self) -> Coroutine[Any, Any, bytes | None]:
        return self.body.read_envelope()

    def unread(self, envelopes: Sequence[bytes]) -> None:
        self.body.unread(envelopes)

    # -- the response -------------------------------------------------------------------------------------------------

    def send(self, event: ResponseEvent) -> bool:
        has_room = self._queue(event)
        self.connection.outflow.flush_soon()
        return has_room

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        connection, buffers = self.connection, self.buffers
        if len(events) == 3 and self.phase is _NEW and buffers.held <= buffers.for_unread:
            begin, message, end = events
            if isinstance(begin, Headers) and isinstance(message, Message) and isinstance(end, Trailers):
                # The common case, a whole response of one message, is one command to the engine.
                body = message.envelope
                fields, path, limit = connection.fields, self.path, self.route.limits.max_trailers
                has_room = self._engine.send(
                    self._id,
                    head=fields.head(self.content_type, begin.metadata, max_fields=limit, path=path),
                    body=body,
                    end=fields.end(end, max_fields=limit, path=path),
                )
                self.messages_sent = 1
                self.bytes_sent = size = len(body)
                self.phase, self.status = _DONE, end.status
                if size > buffers.covered or not has_room:
                    connection.outflow.count(size)
                connection.outflow.flush_for_one()
                return
        for event in events:
            self._queue(event)
        connection.outflow.flush_for_one()

    def _queue(self, event: ResponseEvent) -> bool:
        """Pass the event to the engine. Returns whether there is room for another."""
        after = NEXT_PHASE[self.phase][type(event)]
        if isinstance(event, Message):
            if self.connection.outflow.is_too_far_behind:
                raise BuffersFull(
                    f"the bridge holds {self.buffers.held} of {self.buffers.limit} bytes (buffers), "
                    "replies among them that this client"
                    " has not taken; this reply is dropped"
                )
            self.phase = after
            return self._queue_message(event.envelope)
        if isinstance(event, Headers):
            self._engine.send(self._id, head=self._head_fields(event))
            self.phase = after
        else:
            # Trailers-only: one block opens and ends the response.
            head = head_fields(self.content_type, ()) if self.phase is _NEW else ()
            limit = self.route.limits.max_trailers
            fields = self.connection.fields.end(event, max_fields=limit, path=self.path, head=head)
            self._engine.send(self._id, end=fields)
            # Set last: if a field cannot be sent, rescue must still be able to end the call.
            self.phase, self.status = after, event.status
        return True

    def _queue_message(self, envelope: bytes) -> bool:
        self.messages_sent += 1
        self.bytes_sent += len(envelope)
        if not self._engine.send(self._id, body=envelope):
            self._is_full = True
        self.connection.outflow.count(len(envelope))
        return not (self._is_full or self.connection.is_choked)

    def _head_fields(self, begin: Headers) -> Fields:
        return self.connection.fields.head(
            self.content_type, begin.metadata, max_fields=self.route.limits.max_trailers, path=self.path
        )

    async def writable(self) -> None:
        while self._engine.is_open(self._id) and (self._is_full or self.connection.is_choked):
            self._room = self.connection.loop.create_future()
            try:
                async with asyncio.timeout(SEND_STALL):
                    await self._room
            except TimeoutError:
                self._engine.reset(self._id, ErrorCode.CANCEL)
                self.connection.outflow.flush_soon()
                raise ClientGone(f"the client took no data for {SEND_STALL:g} s") from None
            finally:
                self._room = None

    def window_opened(self) -> None:
        """All that was queued for this call has left."""
        self._is_full = False
        self.transport_drained()

    def transport_drained(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
