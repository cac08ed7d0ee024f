"""A call and the client's end of it: what arrives is gathered or cut into messages, what is sent goes to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.http2.events import ErrorCode, Fields
from bridge.rpc.chunks import keep
from bridge.rpc.compression import IDENTITY
from bridge.rpc.deadline import FARTHEST, earliest
from bridge.rpc.envelope import EnvelopeReader, EnvelopeScanner, is_one_plain_message
from bridge.rpc.errors import (
    ClientGone,
    DeadlineExceeded,
    FullDuplexNeeded,
    MalformedRequest,
    MessageTooLarge,
    Overloaded,
    RpcError,
)
from bridge.rpc.events import (
    NEXT_PHASE,
    Headers,
    Message,
    Phase,
    ResponseEvent,
    Trailers,
)
from bridge.rpc.metadata import Metadata, size_of, value_of
from bridge.server.request import RequestHead
from bridge.server.response import head_fields, shorten, those_that_fit, trailer_fields

if TYPE_CHECKING:
    from bridge.rpc.call import Handler, Route
    from bridge.rpc.status import Status
    from bridge.server.connection import Connection

_log = logging.getLogger(__name__)

SEND_STALL = 300.0
"""Seconds a client may keep its window shut while a message waits for it."""


class ServedCall:
    """One call on one stream. Its connection feeds it; its handler reads from it and sends on it."""

    __slots__ = ("_body", "_chunks", "_connection", "_ended", "_engine", "_failure", "_held", "_id", "_is_full", "_is_running",
                 "_last_received", "_reader", "_room", "_scanner", "_silence", "_task", "_wake", "attempts", "authority", "bytes_received", "bytes_sent",
                 "cause", "content_type", "deadline", "messages_received", "messages_sent", "metadata", "path", "peer",
                 "phase", "request_id", "route", "started", "status", "upstream_seconds")  # fmt: skip

    def __init__(
        self, connection: Connection, stream_id: int, head: RequestHead, route: Route, *, now: float
    ) -> None:
        self._connection = connection
        self._engine = connection.engine
        self._id = stream_id
        self.path = head.path
        self.metadata = head.metadata
        self.content_type = head.content_type
        self.authority = head.authority
        self.peer = connection.peer
        self.started = now
        self.route = route
        timeout = earliest(head.timeout, route.timeout)
        self.deadline: float | None = None if timeout is None else now + timeout
        self.phase = Phase.NEW
        self.status: Status | None = None
        self.cause: RpcError | None = None
        self.messages_received = self.messages_sent = 0
        self.bytes_received = self.bytes_sent = 0
        self.attempts = 0
        self.upstream_seconds = 0.0
        self.request_id = ""

        self._chunks: deque[bytes | bytearray] = deque()
        """Body bytes that nobody has taken yet."""
        self._ended = False
        self._body: bytes | None = None
        self._scanner: EnvelopeScanner | None = None
        self._reader: EnvelopeReader | None = None
        self._held = 0
        """Bytes charged to the process's buffers."""
        self._failure: RpcError | None = None
        """Why the request body cannot be read on."""
        self._wake: asyncio.Future[None] | None = None
        """Pending while a reader waits for body bytes."""
        self._room: asyncio.Future[None] | None = None
        """Pending while a sender waits for the client's window."""
        self._silence: asyncio.TimerHandle | None = None
        self._last_received = 0.0
        """The loop's time; 0: no bytes yet."""
        self._is_running = False
        self._is_full = False
        """Whether sent bytes still wait for the client's window."""

    # -- life ---------------------------------------------------------------------------------------------------------

    def run(self, handler: Handler) -> asyncio.Task[None]:
        self._task = self._connection.loop.create_task(self._serve(handler))
        return self._task

    async def _serve(self, handler: Handler) -> None:
        self._is_running = True
        try:
            await handler(self)
        finally:
            self._release()
            self._connection.forget(self._id, self._task)

    def abort(self, cause: RpcError) -> None:
        """End the call from outside. The first cause counts; a call that has its status is left alone."""
        if self.cause is not None or self.status is not None:
            return
        self.cause = cause
        # A task cancelled before its first step would run none of the layers: it starts, and rescue finds the cause.
        if self._is_running:
            self._task.cancel()

    def check_age(self, now: float) -> None:
        """Called about once a second: ends a call that no deadline bounds but that has taken longer than its target ever does."""
        longest = self.route.longest
        if longest is None or now - self.started <= longest:
            return
        if self.deadline is None or self.deadline - self.started > FARTHEST:
            self.abort(DeadlineExceeded(f"the function did not answer within {longest:g} s"))

    def _release(self) -> None:
        """Gives back what the call held: buffers, timers, and window for body bytes that nobody read."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._held:
            self._let_go(self._held)
        if self._chunks:
            if self._scanner is None:  # what was gathered has been credited
                self._credit(sum(map(len, self._chunks)))
            self._chunks.clear()
        if self.phase is not Phase.DONE and self._engine.is_open(self._id):
            # Only a stopping process or a bug outside rescue ends a call so: the client must not wait for more.
            self._engine.reset(self._id, ErrorCode.INTERNAL_ERROR)
            self._connection.flush_soon()

    # -- the request, fed by the connection ---------------------------------------------------------------------------

    def received(self, data: bytes, *, ended: bool, now: float) -> None:
        """`now`: the loop's time."""
        if data:
            self.bytes_received += len(data)
            self._last_received = now
            if self._failure is None:
                self._take(data)
            else:
                self._credit(len(data))
        if ended:
            self._ended = True
        if self._wake is not None:
            self._wake_reader()

    def _wake_reader(self) -> None:
        if self._wake is None or self._wake.done():
            return
        # A gathering reader wakes once, at the end; one that takes messages wakes for each chunk.
        if self._ended or self._reader is not None or self._failure is not None:
            self._wake.set_result(None)

    def _take(self, data: bytes) -> None:
        if self._chunks:
            keep(self._chunks, data)
        else:
            self._chunks.append(data)
        connection, size = self._connection, len(data)
        figures = connection.figures
        self._held += size
        figures.buffered_bytes += size
        if figures.buffered_bytes > connection.max_buffered:
            self._failure = Overloaded(
                f"the bridge holds {connection.max_buffered} bytes for calls (buffers); try again later",
                kind="buffers",
            )
        if self._scanner is not None:
            self._scan(data)

    def _let_go(self, size: int) -> None:
        self._held -= size
        self._connection.figures.buffered_bytes -= size

    def _credit(self, size: int) -> None:
        # The flush matters: a client whose window is shut sends nothing, so nothing else would carry the credit out.
        if self._engine.credit(self._id, size):
            self._connection.flush_soon()

    def _scan(self, data: bytes | bytearray) -> None:
        """Gathering: check each chunk as it comes, and let the client send as much again."""
        assert self._scanner is not None
        self._credit(len(data))
        if self._failure is not None:
            return
        limit = self.route.limits.max_buffered
        if self.bytes_received > limit:
            self._failure = MessageTooLarge(
                f"the request is larger than max_buffered ({limit} bytes), the most that is"
                " gathered for a target that takes its input whole"
            )
            return
        try:
            self._scanner.feed(bytes(data))
        except RpcError as error:
            self._failure = error

    # -- the request, read by the handler -----------------------------------------------------------------------------

    async def read_all(self) -> bytes:
        if self._body is not None:
            return self._body
        if self._ended and len(self._chunks) == 1 and self._failure is None:
            whole, limits = self._chunks[0], self.route.limits
            if len(whole) <= limits.max_buffered and is_one_plain_message(
                whole, limits.max_request
            ):
                self._credit(len(whole))
                self._chunks.clear()
                self.messages_received = 1
                self._body = bytes(whole)
                return self._body
        self._scanner = EnvelopeScanner(self.route.limits.max_request)
        for chunk in self._chunks:
            self._scan(chunk)
        if not self._ended and self._failure is None:
            self._watch_silence()
            await self._more()
        if self._failure is not None:
            raise self._failure
        self._scanner.finish()
        self.messages_received = self._scanner.count
        self._refuse_unnamed_compression()
        self._body = bytes(self._chunks[0]) if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return self._body

    def _refuse_unnamed_compression(self) -> None:
        # compression.md: a compressed message under no or identity encoding is an error of the sender.
        assert self._scanner is not None
        if self._scanner.has_compressed:
            encoding = value_of(self.metadata, "grpc-encoding") or IDENTITY
            if encoding == IDENTITY:
                raise MalformedRequest(
                    "a message has the compressed flag but the call names no grpc-encoding"
                )

    async def read_envelope(self) -> bytes | None:
        if self._reader is None:
            self._reader = EnvelopeReader(self.route.limits.max_request)
        while True:
            found = self._reader.next_envelope()
            if found is not None:
                self.messages_received += 1
                self._let_go(len(found))
                return found
            if self._chunks:
                chunk = self._chunks.popleft()
                self._credit(len(chunk))
                self._reader.feed(bytes(chunk))
                continue
            if self._failure is not None:
                raise self._failure
            if self._ended:
                self._reader.finish()
                return None
            await self._more()

    async def _more(self) -> None:
        self._wake = self._connection.loop.create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def _watch_silence(self) -> None:
        """Rule 12: a client that sent a message and then waits wants an answer that can only come after its half-close."""
        allowed = self.route.limits.half_close
        if allowed is not None:
            loop = self._connection.loop
            since = self._last_received or loop.time()  # silence counts from the first message
            self._silence = loop.call_at(since + allowed, self._silent, allowed)

    def _silent(self, allowed: float) -> None:
        self._silence = None
        if self._wake is None or self._wake.done():
            return
        quiet_since = self._last_received
        if not quiet_since or self._connection.loop.time() - quiet_since < allowed:
            self._watch_silence()
            return
        self._failure = FullDuplexNeeded(
            f"full duplex needs a grpc:// target: {self.route.name} takes its input whole, and the"
            f" client sent a message but did not end its side within {allowed:g} s (half_close)"
        )
        self._wake_reader()

    # -- the response -------------------------------------------------------------------------------------------------

    def send(self, event: ResponseEvent) -> bool:
        has_room = self._queue(event)
        self._connection.flush_soon()
        return has_room

    def send_all(self, events: Sequence[ResponseEvent]) -> None:
        if not self._queue_response(events):
            for event in events:
                self._queue(event)
        self._connection.flush_for_one()

    def _queue_response(self, events: Sequence[ResponseEvent]) -> bool:
        """Hand a whole response of one message to the engine at once, as most are; False: nothing was done, `_queue` says what to do."""
        if len(events) != 3 or self.phase is not Phase.NEW:
            return False
        begin, message, end = events
        if not (
            isinstance(begin, Headers)
            and isinstance(message, Message)
            and isinstance(end, Trailers)
        ):
            return False
        connection = self._connection
        if connection.figures.buffered_bytes > connection.max_buffered or connection.is_choked:
            return False
        room = self._room_for_fields()
        if len(end.status.message) > room:
            return False
        head, last = head_fields(self.content_type, begin.metadata), trailer_fields(end)
        if size_of(last) > room or (begin.metadata and size_of(head) > room):
            return False
        envelope = message.envelope
        if not self._engine.send_response(self._id, head, envelope, last):
            return False
        self.messages_sent = 1
        self.bytes_sent = len(envelope)
        self.phase, self.status = Phase.DONE, end.status
        connection.count_message(len(envelope))
        return True

    def _queue(self, event: ResponseEvent) -> bool:
        """Hand the event to the engine; whether there is room for another."""
        after = NEXT_PHASE[self.phase][type(event)]
        if isinstance(event, Message):
            if self._connection.is_too_far_behind:
                raise Overloaded(
                    f"the bridge holds {self._connection.max_buffered} bytes (buffers), replies among them that this client"
                    " has not taken; this reply is dropped",
                    kind="buffers",
                )
            self.phase = after
            return self._queue_message(event.envelope)
        if isinstance(event, Headers):
            metadata = event.metadata and self._that_fits(event.metadata)
            self._engine.send_headers(self._id, head_fields(self.content_type, metadata))
            self.phase = after
        else:
            # Trailers-only: one block opens and ends the response.
            head = head_fields(self.content_type, ()) if self.phase is Phase.NEW else ()
            self._engine.send_trailers(self._id, self._end_fields(event, head))
            # Last: should a field be one that cannot be sent, rescue must still be able to end the call.
            self.phase, self.status = after, event.status
        return True

    def _queue_message(self, envelope: bytes) -> bool:
        self.messages_sent += 1
        self.bytes_sent += len(envelope)
        if not self._engine.send_data(self._id, envelope):
            self._is_full = True
        self._connection.count_message(len(envelope))
        return not (self._is_full or self._connection.is_choked)

    def _end_fields(self, trailers: Trailers, head: Fields) -> Fields:
        """The fields that end the call, cut down if the client or the configuration would not have them whole."""
        room = self._room_for_fields()
        if len(trailers.status.message) <= room:  # else it need not be encoded to know
            fields = head + trailer_fields(trailers)
            if size_of(fields) <= room:
                return fields
        self._connection.figures.shortened_trailers += 1
        _log.warning(
            "%s: trailers were cut to %d bytes (max_trailers or the client's own limit)",
            self.path,
            room,
        )
        return head + trailer_fields(shorten(trailers, room=room - size_of(head)))

    def _that_fits(self, metadata: Metadata) -> Metadata:
        """Initial metadata within the limit of trailers: clients drop the whole call over it as well."""
        room = self._room_for_fields() - size_of(head_fields(self.content_type, ()))
        if size_of(metadata) <= room:
            return metadata
        self._connection.figures.shortened_headers += 1
        _log.warning(
            "%s: initial metadata was cut to %d bytes (max_trailers or the client's own limit)",
            self.path,
            room,
        )
        return those_that_fit(metadata, room)

    def _room_for_fields(self) -> int:
        """Bytes of one header list."""
        room, client_room = self.route.limits.max_trailers, self._engine.peer_max_header_list
        # gRPC-core drops a call whose metadata reaches its limit.
        return room if client_room is None else min(room, client_room - 1)

    async def writable(self) -> None:
        while self._engine.is_open(self._id) and (self._is_full or self._connection.is_choked):
            self._room = self._connection.loop.create_future()
            try:
                async with asyncio.timeout(SEND_STALL):
                    await self._room
            except TimeoutError:
                self._engine.reset(self._id, ErrorCode.CANCEL)
                self._connection.flush_soon()
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
