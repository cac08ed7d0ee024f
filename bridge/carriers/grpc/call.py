"""One call on a native gRPC server: its requests go out as the windows allow, its response comes in as events.

In: header lists and envelopes of plain messages. Out: the response's events, or an error that says what kept the call
from its status. What is wrong with one reply ends that call alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from bridge.carriers.grpc.messages import MessageReader
from bridge.carriers.grpc.response import GRPC_CONTENT_TYPE, HTTP_OK, HeadReader, ResponseHead, to_wire
from bridge.carriers.http2.connection import Http2Connection, name_of
from bridge.http2.events import ErrorCode, Fields
from bridge.rpc.buffers import Account
from bridge.rpc.compression import ACCEPT_ENCODING
from bridge.rpc.deadline import NO_TIMER_BEYOND, format_timeout
from bridge.rpc.errors import (
    BadReply,
    BuffersFull,
    DeadlineExceeded,
    MessageTooLarge,
    NoStatus,
    NotProcessed,
    RpcError,
    ServerReset,
)
from bridge.rpc.events import Headers, Message, ResponseEvent, Trailers
from bridge.rpc.limits import LARGEST_MESSAGE, Limits
from bridge.rpc.metadata import Metadata, size_of
from bridge.rpc.status import StatusCode

_MOST_AT_ONCE = 128
"""Events that are returned in one turn of the loop."""

REQUEST_ID_FIELD = "grpc-lambda-bridge-request"
"""Metadata for lambda_fn: the request id of the invocation. Clients cannot send `grpc-` names."""

_ROUNDED_OFF = 0.002
"""Seconds by which a server's deadline may come before ours."""

_CODE_OF_RESET: dict[int, StatusCode] = {
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}
"""gRPC PROTOCOL-HTTP2, "Errors"; REFUSED_STREAM is not among them, the others are INTERNAL."""


LONGEST_USER_AGENT = 256
"""Characters of the client's user agent that are passed on."""


def grpc_request_fields(target: Fields, path: str, user_agent: str, metadata: Metadata) -> Fields:
    """Return the header list of a request without its timeout. `target` has `:method`, `:scheme` and `:authority`."""
    return (
        *target,
        (":path", path),
        ("te", "trailers"),
        ("content-type", GRPC_CONTENT_TYPE),
        ("user-agent", user_agent),
        ("grpc-accept-encoding", ACCEPT_ENCODING),
        *to_wire(metadata),
    )


class Connections(Protocol):
    """Where a call gets its connection, as bridge.carriers.http2.pool.Http2Pool says."""

    async def connection(self) -> Http2Connection:
        """Return a connection with room for a stream. The caller opens it before it awaits anything else."""
        ...

    def changed(self, connection: Http2Connection) -> None:
        """Look again at the connection: the caller has not used it."""
        ...

    def request_id_of(self, connection: Http2Connection) -> str:
        """Return AWS's id of the invocation behind the connection. Empty for a server."""
        ...


class GrpcCallOwner(Protocol):
    """What a call needs of the carrier to its server."""

    name: str
    """The server's name in messages."""
    limits: Limits

    @property
    def pool(self) -> Connections: ...

    heads: HeadReader
    clock: Callable[[], float]
    """Reads the monotonic time (seconds)."""

    def finished(self) -> None:
        """Note that a call has ended."""
        ...


class UpstreamCall:
    """One call on a server, and the Sink of its stream. It has one reader and one sender at a time. Call `finish` at
    its end in any case.
    """

    __slots__ = (
        "_connection",
        "_end",
        "_failure",
        "_fields",
        "_has_no_status",
        "_head",
        "_http_status",
        "_is_over",
        "_messages",
        "_news",
        "_room",
        "_server",
        "_started",
        "_stream",
        "_timeout",
        "_timer",
        "request_id",
    )

    def __init__(self, server: GrpcCallOwner, fields: Fields, timeout: float | None, account: Account) -> None:
        """`fields` is the request's header list without its timeout (seconds)."""
        self._server = server
        self._fields = fields
        self._timeout = timeout
        self._started = server.clock()
        limit = server.limits.max_response
        self._messages = MessageReader(server.name, limit=LARGEST_MESSAGE if limit is None else limit, account=account)
        self._connection: Http2Connection | None = None
        self._stream = 0
        self.request_id = ""
        """AWS's id of the invocation that serves the call, if it is one."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        """Whether the server has ended the call, or the caller no longer wants it."""

        self._http_status = 0
        """0 until the response has begun."""
        self._head: ResponseHead | None = None
        """The response's head, until its Headers have been returned."""
        self._end: Trailers | None = None
        self._has_no_status = False
        """Whether the server ended the call without a status."""
        self._failure: BaseException | None = None
        """The error of a call that has no end."""
        self._news: asyncio.Future[None] | None = None
        """Pending while the reader waits."""
        self._room: asyncio.Future[None] | None = None
        """Pending while the sender waits."""

    # -- for the target ------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Wait until the call has been sent. Raises Unreachable, CertificateRefused, Overloaded, DeadlineExceeded and
        MessageTooLarge: the server has seen nothing of it.
        """
        pool = self._server.pool
        connection = await pool.connection()
        try:
            self.request_id = pool.request_id_of(connection)
            fields = self._fields + self._timeout_field() + self._request_field()
            self._check_size(fields, connection.peer_max_header_list)
        except RpcError:
            pool.changed(connection)  # somebody else may have the stream
            raise
        self._connection = connection
        self._stream = connection.open(fields, self)

    def _check_size(self, fields: Fields, limit: int | None) -> None:
        if limit is not None and size_of(fields) > limit:
            raise MessageTooLarge(
                f"the call's metadata of {size_of(fields)} bytes is above what {self._server.name} takes"
                f" ({limit} bytes)"
            )

    def _timeout_field(self) -> Fields:
        """Return the time left, and start a timer that ends the call then."""
        if self._timeout is None:
            return ()
        left = self._timeout - (self._server.clock() - self._started)
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the call was sent")
        if left < NO_TIMER_BEYOND:
            self._timer = asyncio.get_running_loop().call_later(left, self._expired)
        return (("grpc-timeout", format_timeout(left)),)

    def _request_field(self) -> Fields:
        """Tell the function which of its invocations the call came over."""
        return ((REQUEST_ID_FIELD, self.request_id),) if self.request_id else ()

    def _expired(self) -> None:
        self.failed(DeadlineExceeded("the deadline passed before the server answered"))

    async def send(self, envelope: bytes) -> bool:
        """Send a message and wait until the server's window has room. Returns False if the call has ended."""
        connection = self._connection
        assert connection is not None
        if self._is_over:
            return False
        if not await connection.send(self._stream, envelope) and not self._is_over:
            self._room = connection.loop.create_future()
            await self._room
            self._room = None
        return not self._is_over

    def half_close(self) -> None:
        """Tell the server that no more messages follow."""
        assert self._connection is not None
        self._connection.half_close(self._stream)

    async def receive(self) -> list[ResponseEvent]:
        """Return the next events, at least one. The last event of the call is Trailers. Raises an RpcError if the
        server gave no status.
        """
        assert self._connection is not None
        while True:
            events = await self._take()
            if events:
                return events
            if self._failure is not None:
                raise self._failure
            self._news = self._connection.loop.create_future()
            await self._news

    def finish(self) -> None:
        """Release the call. If it has not ended, it is cancelled."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.cancel(self._stream)
        self._messages.close()
        self._server.finished()

    # -- the response, for the reader ----------------------------------------------------------------------------------

    async def _take(self) -> list[ResponseEvent]:
        """Return the events that have arrived."""
        events: list[ResponseEvent] = []
        if self._head is not None and self._head.status is None:
            events.append(self._take_headers(self._head))
        try:
            while (found := self._next_envelope()) is not None:
                if self._head is not None:
                    events.append(self._take_headers(self._head))
                events.append(Message(found if not found[0] else await self._messages.plain(found)))
                if len(events) >= _MOST_AT_ONCE:
                    await asyncio.sleep(0)  # messages may be tiny, so let other work run in between
                    return events
            if self._has_no_status:
                raise self._no_status()
            if self._end is not None:
                self._refuse_cut(self._end)
                events.append(self._end)
        except RpcError as error:
            # The client still gets what came before the error.
            self._end, self._has_no_status, self._failure = None, False, error
            self._messages.clear()
        return events

    def _take_headers(self, head: ResponseHead) -> Headers:
        self._head = None
        return head.headers

    def _refuse_cut(self, end: Trailers) -> None:
        """Raise if a call with status OK ended inside a message."""
        if end.status.code is StatusCode.OK and self._messages.is_inside:
            raise self._cut()

    def _cut(self) -> BadReply:
        return BadReply(f"{self._server.name} ended the call in the middle of a message")

    def _next_envelope(self) -> bytes | None:
        """Return the next whole envelope, and credit the server with what was read. Raises BadReply, ReplyTooLarge."""
        messages = self._messages
        found = messages.next_envelope()
        if messages.uncredited:
            assert self._connection is not None
            self._connection.credit(self._stream, messages.uncredited)
            messages.uncredited = 0
        return found

    # -- the Sink of the stream ----------------------------------------------------------------------------------------

    def response(self, fields: Fields, *, ended: bool) -> None:
        head = self._server.heads.head(fields)
        self._messages.encoding = head.encoding
        self._http_status = head.http_status
        if head.status is not None and ended:
            self._finish(Trailers(head.status, head.headers.metadata))
        elif head.status is None and not head.is_grpc:
            self.failed(self._server.heads.refusal(head))
        elif ended:
            self._finish(None)
        else:
            # A status in headers that do not end the stream counts if nothing follows, because proxies split one block
            # into two.
            self._head = head
            self._wake()

    def body(self, data: bytes, *, ended: bool) -> None:
        if self._failure is not None:
            return
        if data:
            try:
                self._messages.add(data)
            except BuffersFull as error:
                self.failed(error)
                return
        if not ended:
            self._wake()
        elif self._head is not None and self._head.status is not None and not self._messages.has_chunks:
            self._finish(Trailers(self._head.status, self._head.headers.metadata))
        else:
            self._finish(None)

    def trailers(self, fields: Fields) -> None:
        self._finish(self._server.heads.end(fields))

    def reset(self, code: int) -> None:
        name, named = self._server.name, name_of(code)
        if code == ErrorCode.REFUSED_STREAM:
            if not self._http_status:
                self.failed(NotProcessed(f"{name} refused the call before it began ({named})"))
                return
            kind = StatusCode.UNAVAILABLE
        else:
            kind = _CODE_OF_RESET.get(code, StatusCode.INTERNAL)
        if kind is StatusCode.CANCELLED and self._is_late():
            self._expired()
            return
        self.failed(ServerReset(f"{name} reset the call without a status (HTTP/2 error {named})", code=kind))

    def _is_late(self) -> bool:
        """Whether the server's reset means that the deadline has passed."""
        if self._timeout is None:
            return False
        return self._server.clock() - self._started >= self._timeout - _ROUNDED_OFF

    def failed(self, error: BaseException) -> None:
        if self._failure is None and self._end is None and not self._has_no_status:
            self._failure = error
        self._is_over = True
        self._wake()
        self.has_room()

    def _finish(self, end: Trailers | None) -> None:
        """Note that the server has ended the call. `None` means without a status."""
        if self._failure is None:
            self._end, self._has_no_status = end, end is None
        self._is_over = True
        self._wake()
        self.has_room()

    def has_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _no_status(self) -> RpcError:
        """Return the error of a call that ended without a status."""
        if self._http_status != HTTP_OK:
            return self._server.heads.http_refusal(self._http_status)
        if self._messages.is_inside:
            return self._cut()
        return NoStatus(f"{self._server.name} ended the call without a grpc-status")
