"""Native gRPC: makes calls to one server, message by message in both directions, over shared HTTP/2 connections.

In: a path, metadata as the bridge holds it, envelopes of plain messages. Out: the response's events, or an error that
says what kept a call from its status. What is wrong with one reply ends that call alone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from bridge.carriers.http1.connect import CONNECT_TIMEOUT, Dialer
from bridge.carriers.http1.proxies import Proxies
from bridge.carriers.http1.resolver import Resolver
from bridge.carriers.http1.tls import HTTP_2, client_context
from bridge.carriers.http2.connection import ConnectionTimes, Http2Connection, name_of
from bridge.carriers.http2.pool import Http2Pool
from bridge.config.schema import TargetTls
from bridge.config.target import GrpcTargetSpec
from bridge.http2.events import ErrorCode, Fields
from bridge.rpc.address import UnixAddress
from bridge.rpc.buffers import Account, Portion
from bridge.rpc.compression import ACCEPT_ENCODING, IDENTITY, SUPPORTED, inflate
from bridge.rpc.deadline import NO_TIMER_BEYOND, format_timeout
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, data_of, envelope, parse_prefix
from bridge.rpc.errors import (
    BadReply,
    BuffersFull,
    DeadlineExceeded,
    Draining,
    HttpRefusal,
    MessageTooLarge,
    NoStatus,
    NotProcessed,
    ReplyTooLarge,
    RpcError,
    ServerReset,
    Unreachable,
)
from bridge.rpc.events import EMPTY_HEADERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.hop import USER_AGENT, Leg, not_passed
from bridge.rpc.limits import LARGEST_MESSAGE, Limits
from bridge.rpc.metadata import (
    PUSHBACK,
    Metadata,
    binary_values,
    clean_value,
    decode_binary,
    is_binary,
    is_name,
    size_of,
    valid_pushback,
)
from bridge.rpc.status import (
    OK,
    Status,
    StatusCode,
    code_of_http_status,
    decode_message,
    parse_code,
)
from bridge.rpc.url import Origin
from bridge.rpc.value import FrozenValue

_MOST_AT_ONCE = 128
"""Events that are returned in one turn of the loop."""

_LONGEST_USER_AGENT = 256

_INFLATED_ON_LOOP = 4 << 10
"""Bytes of a compressed message up to which it is inflated on the loop. A larger one may inflate to more than 4 MiB, so
a thread inflates it.
"""

_USER_TIMEOUT = 30_000
"""Milliseconds after which a server counts as dead if it acknowledges nothing that it was sent (RFC 5482)."""

_CONTENT_TYPE = "application/grpc"
_DETAILS = "grpc-status-details-bin"
MOST_VALUES = 1000
"""Values of one `-bin` field that are passed on."""

_OK = 200
_TOO_MANY_REQUESTS = 429

_ROUNDED_OFF = 0.002
"""Seconds by which a server's deadline may come before ours."""

_NOT_METADATA = not_passed(Leg.GRPC_REPLY) | {":status"}

_CODE_OF_RESET: dict[int, StatusCode] = {
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}
"""gRPC PROTOCOL-HTTP2, "Errors"; REFUSED_STREAM is not among them, the others are INTERNAL."""


class GrpcCarrier:
    """The carrier to one native gRPC server. Belongs to the running loop."""

    def __init__(
        self,
        target: GrpcTargetSpec,
        *,
        tls: TargetTls | None = None,
        limits: Limits | None = None,
        dialer: Dialer | None = None,
        times: ConnectionTimes | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` reads the monotonic time (seconds). Raises OSError for TLS files that cannot be read."""
        self.name = str(target)
        self.limits = limits or Limits()
        self.clock = clock
        self._times = times
        self._connect_timeout = connect_timeout
        self._dialer = dialer or Dialer(Resolver(), Proxies(), timeout=connect_timeout)
        self._address = target.address
        self._tls = _context(tls or TargetTls()) if target.tls else None
        scheme = "https" if target.tls else "http"
        self._head: Fields = (
            (":method", "POST"),
            (":scheme", scheme),
            (":authority", _authority_of(target, tls)),
        )
        self.pool = Http2Pool(self.name, self._connect, new_connection=self._new_connection)
        self._in_flight = 0
        self._is_retired = False
        self._last_fields: Fields = ()
        """The fields that opened the last response, and (below) their meaning. Most responses begin with the same
        fields.
        """
        self._last_response: Response | None = None
        self._last_trailers: Fields = ()
        self._last_end: Trailers | None = None

    def start(
        self,
        path: str,
        metadata: Metadata,
        *,
        account: Account,
        timeout: float | None,
        user_agent: str = "",
    ) -> UpstreamCall:
        """Begin a call. Call `connect` next, and `finish` in any case.

        `account` counts what is held of the response; `timeout`: seconds; `user_agent`: the client's.
        """
        self._in_flight += 1
        agent = f"{clean_value(user_agent)[:_LONGEST_USER_AGENT]} {USER_AGENT}".lstrip()
        begin = (
            *self._head,
            (":path", path),
            ("te", "trailers"),
            ("content-type", _CONTENT_TYPE),
            ("user-agent", agent),
            ("grpc-accept-encoding", ACCEPT_ENCODING),
        )
        return UpstreamCall(self, begin + _to_wire(metadata), timeout, account)

    async def dry_run(self) -> None:
        """Connect without making a call. Raises RpcError. The caller bounds the time."""
        self._in_flight += 1
        try:
            self.pool.changed(await self.pool.connection())
        finally:
            self.finished()

    async def close(self) -> None:
        """Close the connections. Calls under way end with UNAVAILABLE."""
        await self.pool.close()

    def retire(self) -> None:
        """Close the connections when the last call has ended. A call that begins late keeps a connection until its own
        end.
        """
        self._is_retired = True
        self._close_if_idle()

    def finished(self) -> None:
        """Note that a call has ended."""
        self._in_flight -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_retired and not self._in_flight:
            self.pool.close_idle()

    def response(self, fields: Fields) -> Response:
        """Read the head of a response."""
        if fields is not self._last_fields or self._last_response is None:
            self._last_fields, self._last_response = fields, _read_response(fields)
        return self._last_response

    def end(self, fields: Fields) -> Trailers | None:
        """Read trailers. Returns None without a grpc-status."""
        if fields is not self._last_trailers:
            status, metadata = _status_in(fields), _from_wire(fields)
            self._last_trailers = fields
            self._last_end = None if status is None else Trailers(status, metadata)
        return self._last_end

    def refusal(self, response: Response) -> RpcError:
        """Return the error for a response that is not gRPC and has no status."""
        if response.http_status != _OK:
            return self.http_refusal(response.http_status)
        kind = response.content_type[:80]
        if kind.startswith(f"{_CONTENT_TYPE}+"):
            return BadReply(f"{self.name} answered in {kind} messages, it was sent {_CONTENT_TYPE}")
        return NoStatus(f"{self.name} answered with content-type {kind} in place of {_CONTENT_TYPE}")

    def http_refusal(self, http_status: int) -> HttpRefusal:
        is_throttled = http_status == _TOO_MANY_REQUESTS
        return HttpRefusal(
            f"{self.name} answered HTTP {http_status} and no gRPC status",
            code=self.limits.throttled_as if is_throttled else code_of_http_status(http_status),
        )

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _connect(self, make: Callable[[], Http2Connection]) -> Http2Connection:
        if isinstance(self._address, UnixAddress):
            made = await self._dialer.dial_unix(self._address.path.absolute(), make)
        else:
            scheme = "grpc" if self._tls is None else "grpcs"
            origin = Origin(scheme, self._address.host, self._address.port)
            made = await self._dialer.dial(origin, self._tls, lambda opened: _prepared(opened, make))
        try:
            async with asyncio.timeout(self._connect_timeout):
                await made.wait_until_ready()
        except TimeoutError as error:
            silent = Unreachable(
                f"{self.name} accepts connections and does not speak HTTP/2: "
                f"no SETTINGS within {self._connect_timeout:g} s"
            )
            made.abort(silent)
            raise silent from error
        except asyncio.CancelledError:
            made.abort(Draining("the bridge stops"))
            raise
        return made

    def _new_connection(self, pool: Http2Pool) -> Http2Connection:
        return Http2Connection(pool, times=self._times)


class UpstreamCall:
    """One call on a server, and the Sink of its stream. It has one reader and one sender at a time. Call `finish` at
    its end in any case.
    """

    __slots__ = (
        "_account",
        "_at",
        "_carrier",
        "_chunks",
        "_connection",
        "_current",
        "_encoding",
        "_end",
        "_failure",
        "_fields",
        "_has_no_status",
        "_head",
        "_held",
        "_http_status",
        "_is_over",
        "_limit",
        "_news",
        "_room",
        "_size",
        "_started",
        "_stream",
        "_timeout",
        "_timer",
    )

    def __init__(self, carrier: GrpcCarrier, fields: Fields, timeout: float | None, account: Account) -> None:
        """`fields` is the request's header list without its timeout (seconds)."""
        self._carrier = carrier
        self._fields = fields
        self._timeout = timeout
        self._account = account
        self._held = Portion(account)
        self._size = 0
        """Body bytes that are held."""
        self._started = carrier.clock()
        limit = carrier.limits.max_response
        self._limit = LARGEST_MESSAGE if limit is None else limit
        self._connection: Http2Connection | None = None
        self._stream = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        """Whether the server has ended the call, or the caller no longer wants it."""

        self._http_status = 0
        """0 until the response has begun."""
        self._encoding = IDENTITY
        self._head: Response | None = None
        """The response's head, until its Headers have been returned."""
        self._chunks: deque[bytes] = deque()
        """Body bytes that the server has not been credited for."""
        self._current: bytes | bytearray = b""
        """Body bytes to be cut into messages, and (below) where the next one begins."""
        self._at = 0
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
        pool = self._carrier.pool
        connection = await pool.connection()
        try:
            fields = self._fields + self._timeout_field()
            self._check_size(fields, connection.peer_max_header_list)
        except RpcError:
            pool.changed(connection)  # somebody else may have the stream
            raise
        self._connection = connection
        self._stream = connection.open(fields, self)

    def _check_size(self, fields: Fields, limit: int | None) -> None:
        if limit is not None and size_of(fields) > limit:
            raise MessageTooLarge(
                f"the call's metadata of {size_of(fields)} bytes is above what {self._carrier.name} takes "
                f"({limit} bytes)"
            )

    def _timeout_field(self) -> Fields:
        """Return the time left, and start a timer that ends the call then."""
        if self._timeout is None:
            return ()
        left = self._timeout - (self._carrier.clock() - self._started)
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the call was sent")
        if left < NO_TIMER_BEYOND:
            self._timer = asyncio.get_running_loop().call_later(left, self._expired)
        return (("grpc-timeout", format_timeout(left)),)

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
        self._held.become(0)
        self._carrier.finished()

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
                events.append(Message(found if not found[0] else await self._inflated(found)))
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
            self._chunks.clear()
            self._current, self._at = b"", 0
        return events

    def _take_headers(self, head: Response) -> Headers:
        self._head = None
        return head.headers

    def _refuse_cut(self, end: Trailers) -> None:
        """Raise if a call with status OK ended inside a message."""
        if end.status.code is StatusCode.OK and len(self._current) > self._at:
            raise self._cut()

    def _cut(self) -> BadReply:
        return BadReply(f"{self._carrier.name} ended the call in the middle of a message")

    def _next_envelope(self) -> bytes | None:
        """Return the next whole envelope, or None if it has not all arrived. Raises BadReply, ReplyTooLarge."""
        while True:
            data, at = self._current, self._at
            have = len(data) - at
            if have >= PREFIX_SIZE:
                flags, size = parse_prefix(data, at)
                self._check(flags, size)
                if have >= PREFIX_SIZE + size:
                    self._at = end = at + PREFIX_SIZE + size
                    self._count(-PREFIX_SIZE - size)
                    if not at and end == len(data) and isinstance(data, bytes):
                        return data
                    return bytes(memoryview(data)[at:end])
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            assert self._connection is not None
            self._connection.credit(self._stream, len(chunk))
            if not have:
                self._current, self._at = chunk, 0
                continue
            if not isinstance(data, bytearray):
                data = self._current = bytearray(memoryview(data)[at:])
            elif at:
                del data[:at]
            self._at = 0
            data += chunk

    def _count(self, change: int) -> None:
        """Count this many more body bytes as held. Raises BuffersFull."""
        self._size += change
        covered = self._account.buffers.covered
        if self._size > covered or self._held.size:
            self._held.become(max(0, self._size - covered))

    def _check(self, flags: int, size: int) -> None:
        if flags > COMPRESSED:
            raise BadReply(
                f"{self._carrier.name} sent a message with flag byte 0x{flags:02x}; gRPC knows 0x00 and 0x01"
            )
        if size > self._limit:
            raise self._too_large(f"of {size} bytes")

    def _too_large(self, size: str) -> ReplyTooLarge:
        return ReplyTooLarge(
            f"a response message {size} from {self._carrier.name} is above max_response ({self._limit} bytes)"
        )

    async def _inflated(self, found: bytes) -> bytes:
        """Return the envelope with its message inflated. Raises BadReply, ReplyTooLarge."""
        encoding, name = self._encoding, self._carrier.name
        if encoding == IDENTITY:
            raise BadReply(f"{name} sent a compressed message but names no grpc-encoding")
        if encoding not in SUPPORTED:
            raise BadReply(f"{name} compressed a message with {encoding[:40]}, which was not offered to it")
        data, room = data_of(found), self._account.room
        inflated = partial(inflate, data, encoding, max_size=min(self._limit, room))
        try:
            if len(data) <= _INFLATED_ON_LOOP:
                return envelope(inflated())
            return envelope(await asyncio.to_thread(inflated))
        except MessageTooLarge as error:
            if room < self._limit:
                raise self._account.buffers.full(room) from None
            raise self._too_large("of more bytes, once inflated,") from error
        except BadReply as error:
            raise BadReply(f"a message from {name} does not decode as {encoding}") from error

    # -- the Sink of the stream ----------------------------------------------------------------------------------------

    def response(self, fields: Fields, *, ended: bool) -> None:
        head = self._carrier.response(fields)
        self._encoding = head.encoding
        self._http_status = head.http_status
        if head.status is not None and ended:
            self._finish(Trailers(head.status, head.headers.metadata))
        elif head.status is None and not head.is_grpc:
            self.failed(self._carrier.refusal(head))
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
                self._count(len(data))
            except BuffersFull as error:
                self.failed(error)
                return
            self._chunks.append(data)
        if not ended:
            self._wake()
        elif self._head is not None and self._head.status is not None and not self._chunks:
            self._finish(Trailers(self._head.status, self._head.headers.metadata))
        else:
            self._finish(None)

    def trailers(self, fields: Fields) -> None:
        self._finish(self._carrier.end(fields))

    def reset(self, code: int) -> None:
        name, named = self._carrier.name, name_of(code)
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
        return self._carrier.clock() - self._started >= self._timeout - _ROUNDED_OFF

    def failed(self, error: BaseException) -> None:
        if self._failure is None and self._end is None and not self._has_no_status:
            self._failure = error
        self._is_over = True
        self._wake()
        self.has_room()

    def _finish(self, end: Trailers | None) -> None:
        """End the call, as the server has done. `None` means without a status."""
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
        if self._http_status != _OK:
            return self._carrier.http_refusal(self._http_status)
        if len(self._current) > self._at:
            return self._cut()
        return NoStatus(f"{self._carrier.name} ended the call without a grpc-status")


# -- what header lists mean --------------------------------------------------------------------------------------------


class Response(FrozenValue, frozen=True):
    """The header block that opens a response."""

    http_status: int
    headers: Headers
    """Its metadata; trailing if the block ends the call."""
    status: Status | None
    """None without a grpc-status."""
    encoding: str
    """The encoding of its compressed messages."""
    content_type: str
    """The content type in lower case, without parameters. It is empty if the response names none."""

    @property
    def is_grpc(self) -> bool:
        """Whether messages may follow."""
        kind = self.content_type
        return kind in ("", _CONTENT_TYPE, f"{_CONTENT_TYPE}+proto") and (self.http_status == _OK or bool(kind))


def _read_response(fields: Fields) -> Response:
    content_type, encoding = "", IDENTITY
    for name, value in fields:
        if name == "content-type":
            content_type = value.partition(";")[0].strip().lower()
        elif name == "grpc-encoding":
            encoding = clean_value(value) or IDENTITY
    metadata = _from_wire(fields[1:])
    headers = Headers(metadata) if metadata else EMPTY_HEADERS
    return Response(int(fields[0][1]), headers, _status_in(fields), encoding, content_type)


def _status_in(fields: Fields) -> Status | None:
    """Return the status, if there is a grpc-status. The first value counts."""
    code: StatusCode | None = None
    message, details = "", b""
    for name, value in reversed(fields):
        if name == "grpc-status":
            code = parse_code(value)
        elif name == "grpc-message":
            message = decode_message(value)
        elif name == _DETAILS:
            details = _bytes_of(value)
    if code is None:
        return None
    return OK if code is StatusCode.OK and not message and not details else Status(code, message, details)


def _bytes_of(details: str) -> bytes:
    try:
        return decode_binary(details)
    except ValueError:
        return b""  # bad details must not lose the code and the message


def _to_wire(metadata: Metadata) -> Metadata:
    """Metadata as a server takes it."""
    fields: list[tuple[str, str]] = []
    for name, value in metadata:
        if is_binary(name):
            fields += [(name, part) for part in binary_values(value, MOST_VALUES)]
        else:
            fields.append((name, clean_value(value)))
    return tuple(fields)


def _from_wire(fields: Fields) -> Metadata:
    """Metadata for the client, without fields of the call itself or of one connection, and without unreadable
    values.
    """
    metadata: list[tuple[str, str]] = []
    for name, value in fields:
        if name in _NOT_METADATA:
            continue
        if name.startswith("grpc-"):
            # The bridge inflates, so the server's encodings do not concern the client.
            if name == PUSHBACK:
                metadata.append((name, valid_pushback(value)))
        elif is_binary(name):
            metadata += [(name, part) for part in binary_values(value, MOST_VALUES)]
        elif is_name(name):
            metadata.append((name, clean_value(value)))
    return tuple(metadata)


# -- addresses and TLS -------------------------------------------------------------------------------------------------


def _authority_of(target: GrpcTargetSpec, tls: TargetTls | None) -> str:
    if tls is not None and tls.server_name is not None:
        return tls.server_name
    return "localhost" if isinstance(target.address, UnixAddress) else str(target.address)


def _context(files: TargetTls) -> ssl.SSLContext:
    return client_context(
        ca=files.ca,
        certificate=files.cert,
        key=files.key,
        server_name=files.server_name,
        alpn=HTTP_2,
    )


def _prepared(opened: socket.socket, make: Callable[[], Http2Connection]) -> Http2Connection:
    """Set up a socket so that it notices a dead server soon. A call may wait hours for its answer, but not for a dead
    server.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
    if option is not None:
        opened.setsockopt(socket.IPPROTO_TCP, option, _USER_TIMEOUT)
    return make()
