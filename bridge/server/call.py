"""A call as its connection sees it: keeps what arrives until the handler reads it, and passes what is sent to the
engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.http2.events import ErrorCode, Fields
from bridge.rpc.buffers import OpenAccount, cost_of_fields
from bridge.rpc.deadline import NO_TIMER_BEYOND, earliest
from bridge.rpc.envelope import PREFIX_SIZE, parse_prefix
from bridge.rpc.errors import BuffersFull, ClientGone, DeadlineExceeded, RequestStalled, RpcError
from bridge.rpc.events import (
    NEXT_PHASE,
    Headers,
    Message,
    Phase,
    ResponseEvent,
    Trailers,
)
from bridge.rpc.metadata import Metadata, size_of
from bridge.server.request import RequestHead
from bridge.server.request_body import GROWTH, GROWTH_TIME, RequestBody
from bridge.server.response import head_fields, shorten, those_that_fit, trailer_fields

if TYPE_CHECKING:
    from bridge.rpc.call import Handler, Route
    from bridge.rpc.status import Status
    from bridge.server.connection import Connection

_logger = logging.getLogger(__name__)

SEND_STALL = 300.0
"""Seconds a client may keep its window shut while a message waits for it."""


class ServedCall(OpenAccount):
    """One call on one stream. Its connection feeds it; its handler reads from it and sends on it.

    It accounts for everything held for it, from its request to its reply.
    """

    __slots__ = (
        "_body",
        "_engine",
        "_id",
        "_is_full",
        "_is_metadata_counted",
        "_is_read",
        "_is_running",
        "_room",
        "_whole",
        "attempts",
        "authority",
        "bytes_received",
        "bytes_sent",
        "cause",
        "connection",
        "content_type",
        "deadline",
        "has_ended",
        "messages_received",
        "messages_sent",
        "metadata",
        "path",
        "peer",
        "phase",
        "request_id",
        "route",
        "started",
        "status",
        "task",
        "upstream_seconds",
    )

    task: asyncio.Task[None]
    """The task that runs `serve`. The connection creates it."""

    def __init__(self, connection: Connection, stream_id: int, head: RequestHead, route: Route, *, now: float) -> None:
        self.connection = connection
        self._engine = connection.engine
        self.buffers = buffers = connection.buffers
        # Counted even if it does not fit, because the call is here. The layer `admit` then refuses it.
        self.held = held = buffers.call_cost
        buffers.held += held
        self._id = stream_id
        self.path = head.path
        self.metadata = head.metadata
        self.content_type = head.content_type
        self.authority = head.authority
        self.peer = connection.peer
        self.started = now
        self.route = route
        timeout = head.timeout if route.timeout is None else earliest(head.timeout, route.timeout)
        self.deadline: float | None = None if timeout is None else now + timeout
        self.phase = Phase.NEW
        self.status: Status | None = None
        self.cause: RpcError | None = None
        self.messages_received = self.messages_sent = 0
        self.bytes_received = self.bytes_sent = 0
        self.attempts = 0
        self.upstream_seconds = 0.0
        self.request_id = ""

        self._whole: bytes | None = None
        """The request's body if it arrived in one piece with its end. None once it was converted to a RequestBody."""
        self._is_read = False
        """Whether `_whole` has been read: checked to be one message, counted, and credited."""
        self._body: RequestBody | None = None
        """The request's body in all other cases."""
        self._room: asyncio.Future[None] | None = None
        """Pending while a sender waits for the client's window."""
        self._is_running = self._is_metadata_counted = False
        self.has_ended = False
        self._is_full = False
        """Whether sent bytes still wait for the client's window."""

    # -- life ---------------------------------------------------------------------------------------------------------

    async def serve(self, handler: Handler) -> None:
        """Run the handler; give back what the call held."""
        self._is_running = True
        try:
            await handler(self)
        finally:
            # Give back all that the call held: window for bytes that were not read, timers, buffers.
            if self._whole is not None:
                if not self._is_read:
                    self.credit(len(self._whole))
            elif self._body is not None:
                self._body.release()
                self._body = None
            buffers = self.buffers
            buffers.held -= self.held  # does the same as `close`, at a lower cost
            self.held = 0
            if buffers.is_awaited:
                buffers.tell_freed()
            if self.phase is not Phase.DONE:
                self._end_without_status()
            self.connection.forget(self._id)

    def _end_without_status(self) -> None:
        """Only a stopping process or a bug outside rescue ends a call so. The client must not wait for more."""
        if self._engine.is_open(self._id):
            self._engine.reset(self._id, ErrorCode.INTERNAL_ERROR)
            self.connection.flush_soon()

    def abort(self, cause: RpcError) -> None:
        """End the call from outside. Only the first cause counts. A call that has its status already is not changed."""
        if self.cause is not None or self.status is not None:
            return
        self.cause = cause
        # A task cancelled before its first step would run none of the layers. So it starts, and rescue finds the cause.
        if self._is_running:
            self.task.cancel()

    def check_age(self, now: float) -> None:
        """Count the metadata of a long call. The connection calls this about once a second.

        Ends a call without a deadline that has taken longer than its target ever can.
        """
        if not self._is_metadata_counted:
            # Not done when the call begins, so that calls shorter than a second do not pay for it.
            self._is_metadata_counted = True
            self.hold_anyway(cost_of_fields(self.metadata))
        if not (self.has_ended or self.route.streams):
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
        elif self._body is not None and self._body.is_stalled(now):
            self.abort(
                RequestStalled(
                    f"a request message grew by less than {GROWTH} bytes in {GROWTH_TIME:g} s: send it without pauses"
                )
            )

    # -- the request --------------------------------------------------------------------------------------------------

    def received(self, data: bytes, *, ended: bool, now: float) -> None:
        """`now`: the loop's time."""
        size = len(data)
        self.bytes_received += size
        if ended:
            self.has_ended = True
            if self._body is None and size <= self.buffers.covered:
                self._whole = data  # the call's own cost covers it
                return
        self._other_body().received(data, ended=ended, now=now)

    async def read_all(self) -> bytes:
        whole = self._whole
        if whole is None:
            return await self._other_body().read_all()
        if not self._is_read:
            limits = self.route.limits
            size = len(whole) - PREFIX_SIZE
            # One message, not compressed and within the limits: the common case.
            if (
                not 0 <= size <= limits.max_request
                or size + PREFIX_SIZE > limits.max_buffered
                or parse_prefix(whole) != (0, size)
            ):
                return await self._other_body().read_all()
            self._is_read = True
            self.messages_received = 1
            if self._engine.credit(self._id, len(whole)):
                self.connection.flush_soon()
        return whole

    async def read_envelope(self) -> bytes | None:
        return await self._other_body().read_envelope()

    def unread(self, envelopes: Sequence[bytes]) -> None:
        self._other_body().unread(envelopes)

    def _other_body(self) -> RequestBody:
        """Return the request's body as a RequestBody, for all cases but one plain message that is read at once."""
        body = self._body
        if body is None:
            body = self._body = RequestBody(self, self.connection)
            if self._whole is not None:
                body.adopt(self._whole, is_read=self._is_read)
                self._whole = None
        return body

    def credit(self, size: int) -> None:
        """Let the client send this many more bytes."""
        # The flush is needed: a client whose window is shut sends nothing, so no later write would carry the credit.
        if self._engine.credit(self._id, size):
            self.connection.flush_soon()

    # -- the response -------------------------------------------------------------------------------------------------

    def send(self, event: ResponseEvent) -> bool:
        has_room = self._queue(event)
        self.connection.flush_soon()
        return has_room

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        connection, buffers = self.connection, self.buffers
        if len(events) == 3 and self.phase is Phase.NEW and buffers.held <= buffers.for_unread:
            begin, message, end = events
            if isinstance(begin, Headers) and isinstance(message, Message) and isinstance(end, Trailers):
                # The common case, a whole response of one message, is one command to the engine.
                body = message.envelope
                head = self._head_fields(begin) if begin.metadata else head_fields(self.content_type, ())
                has_room = self._engine.send(self._id, head=head, body=body, end=self._end_fields(end))
                self.messages_sent = 1
                self.bytes_sent = size = len(body)
                self.phase, self.status = Phase.DONE, end.status
                if size > buffers.covered or not has_room:
                    connection.count_message(size)
                connection.flush_for_one()
                return
        for event in events:
            self._queue(event)
        connection.flush_for_one()

    def _queue(self, event: ResponseEvent) -> bool:
        """Pass the event to the engine. Returns whether there is room for another."""
        after = NEXT_PHASE[self.phase][type(event)]
        if isinstance(event, Message):
            if self.connection.is_too_far_behind:
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
            head = head_fields(self.content_type, ()) if self.phase is Phase.NEW else ()
            self._engine.send(self._id, end=self._end_fields(event, head))
            # Set last: if a field cannot be sent, rescue must still be able to end the call.
            self.phase, self.status = after, event.status
        return True

    def _queue_message(self, envelope: bytes) -> bool:
        self.messages_sent += 1
        self.bytes_sent += len(envelope)
        if not self._engine.send(self._id, body=envelope):
            self._is_full = True
        self.connection.count_message(len(envelope))
        return not (self._is_full or self.connection.is_choked)

    def _head_fields(self, begin: Headers) -> Fields:
        """Return the fields that open the response, cut to what the client and the configuration allow."""
        metadata = begin.metadata
        return head_fields(self.content_type, metadata and self._that_fits(metadata))

    def _end_fields(self, trailers: Trailers, head: Fields = ()) -> Fields:
        """Return the fields that end the call, cut to what the client and the configuration allow."""
        room, client_room = self.route.limits.max_trailers, self._engine.peer_max_header_list
        if client_room is not None and client_room <= room:
            room = client_room - 1  # gRPC-core drops a call whose metadata reaches its limit
        if len(trailers.status.message) <= room:  # a longer message cannot fit, so the full list is not encoded
            fields = head + trailer_fields(trailers) if head else trailer_fields(trailers)
            if size_of(fields) <= room:
                return fields
        self.connection.figures.shortened_trailers += 1
        self._tell_cut("trailers", room)
        return head + trailer_fields(shorten(trailers, room=room - size_of(head)))

    def _that_fits(self, metadata: Metadata) -> Metadata:
        """Return initial metadata, cut to the limit of trailers. Clients drop the whole call if it is too large."""
        room, client_room = self.route.limits.max_trailers, self._engine.peer_max_header_list
        if client_room is not None and client_room <= room:
            room = client_room - 1
        room -= size_of(head_fields(self.content_type, ()))
        if size_of(metadata) <= room:
            return metadata
        self.connection.figures.shortened_headers += 1
        self._tell_cut("initial metadata", room)
        return those_that_fit(metadata, room)

    def _tell_cut(self, what: str, room: int) -> None:
        """Log once for each connection, because a client with a tiny limit would fill the log."""
        if not self.connection.has_told_cut:
            self.connection.has_told_cut = True
            _logger.warning(
                "%s: %s cut to %d bytes (max_trailers or the limit of the client at %s)",
                self.path,
                what,
                max(room, 0),
                self.peer.address,
            )

    async def writable(self) -> None:
        while self._engine.is_open(self._id) and (self._is_full or self.connection.is_choked):
            self._room = self.connection.loop.create_future()
            try:
                async with asyncio.timeout(SEND_STALL):
                    await self._room
            except TimeoutError:
                self._engine.reset(self._id, ErrorCode.CANCEL)
                self.connection.flush_soon()
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
