"""One HTTP/1.1 connection. It sends a request, reads its response, and then takes the next one.

In: request heads and bodies as bytes; what the loop reads. Out: to an Exchange, the response as it comes; to the owner,
when the connection is free again and when it is gone. llhttp parses. The limits on the response's size are here and in
the Exchange. All connections of a pool read into one buffer: the loop fills it and passes it on in one step, and
nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol, cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from bridge.carriers.arrival import not_arrived
from bridge.carriers.http1.framing import Framing, RawFields, ends_with_connection
from bridge.carriers.http1.tls import ResumingContext
from bridge.rpc.errors import BadReply, ConnectionLost, RpcError, UnknownHttpStatus
from bridge.rpc.url import Origin

MAX_RESPONSE_HEAD = 64 << 10
"""The largest head of a response that takes more than one read, with its interim responses. Also the most bytes between
two parts of a body. One read (HttpClient's buffer) bounds the rest.
"""

MAX_FIELDS = 512
"""Header fields of a response, interim responses included."""

JOINED_BELOW = 64 << 10
"""Below this size (bytes) a head and a body are joined for one write. Above it, copying costs more than a second write.
"""

_KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE).search


class ClosedUnanswered(ConnectionLost):
    """The other side closed the connection in good order before the first byte of an answer."""

    unread = 0
    """How many of the last written bytes had not reached the other side's system by then. 0 if that is unknown."""


class Exchange(Protocol):
    """Receives one response. It returns an error for a fault, and the connection ends with it."""

    def begin(self, status: int, fields: RawFields) -> None:
        """Take the head, which has arrived."""
        ...

    def expect(self, length: int, connection: Http1Connection) -> RpcError | None:
        """Check the declared length of a body or a chunk that did not arrive whole in one read."""
        ...

    def add(self, body: bytes) -> RpcError | None:
        """Take a part of the body."""
        ...

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        ...

    def end(self) -> bool:
        """End the response, which is complete. Returns whether its caller still waited for it."""
        ...

    def fail(self, error: RpcError) -> None:
        """End a response that will not be completed."""
        ...


class ConnectionOwner(Protocol):
    """The owner of a connection."""

    origin: Origin

    def opened(self, connection: Http1Connection) -> None: ...

    def keeps_alive(self, seconds: float) -> None:
        """Take the number of seconds for which the server keeps idle connections, as it has announced it."""
        ...

    def released(self, connection: Http1Connection) -> None:
        """Take back a connection that may carry the next request."""
        ...

    def lost(self, connection: Http1Connection) -> None: ...


class ResponsePhase(Enum):
    """The stages of a response on the connection."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    WHOLE = auto()
    """The response has ended. The rest of its last read should be empty."""
    CLOSED = auto()


IDLE, HEAD, BODY, WHOLE, CLOSED = ResponsePhase


class Http1Connection(asyncio.BufferedProtocol):
    """A connection that carries one exchange at a time."""

    def __init__(self, owner: ConnectionOwner, opened: socket.socket, buffer: memoryview) -> None:
        self._owner = owner
        self._socket = opened
        self._buffer = buffer
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._phase: ResponsePhase = IDLE
        self._head: RawFields = []
        self._fields: RawFields = []
        self._fields_left = MAX_FIELDS
        """How many fields the response may still have, after those of its interim responses."""
        self._framing = Framing(owner.origin)
        self._unparsed = 0
        self._can_stay = True
        self._is_paused = False
        self.served = 0
        """Responses received whole."""
        self.idle_since = 0.0
        """Loop time."""

    # -- for the owner -------------------------------------------------------------------------------------------------

    def is_usable(self) -> bool:
        return self._phase is IDLE and not self._transport.is_closing()

    def has_news(self) -> bool:
        """Whether the socket has bytes, or an end, that the loop has not read yet. When idle, this means its end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def start(self, exchange: Exchange, head: bytes, body: bytes | Sequence[bytes]) -> bool:
        """Send a request. Returns False if not a byte left this process: the connection is dead, and the exchange has
        not begun.
        """
        transport = self._transport
        if transport.is_closing():
            return False
        if not isinstance(body, bytes):
            transport.writelines((head, *body))
        elif len(body) < JOINED_BELOW:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        if transport.is_closing():
            # The first attempt to send failed. A transport that had sent anything would keep the rest for later.
            return False
        self._exchange = exchange
        self._phase = HEAD
        return True

    def abort(self) -> None:
        """Close now and drop unsent bytes."""
        self._phase = CLOSED
        self._exchange = None
        self._transport.abort()

    def close(self) -> None:
        """Abort. An exchange under way fails with ConnectionLost."""
        self._lose()

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._phase is BODY and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # -- for the loop --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transports, but not by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._exchange is None:
            # A server has nothing to send on an idle connection, and nobody reads from a closed one.
            self.abort()
            return
        self._unparsed += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserCallbackError:
            raise  # a bug in the bridge: the loop logs it and closes the connection
        except (HttpParserError, HttpParserUpgrade) as error:
            self._can_stay = False
            if self._phase is not WHOLE:
                self._fail(self._not_http(), error)
        if self._phase is WHOLE:
            self._settle()
        elif self._phase is not CLOSED:
            self._check_what_is_to_come(nbytes)

    def eof_received(self) -> None:
        # RFC 9112 6.3: without a length the body ends with the connection.
        if self._phase is BODY and ends_with_connection(self._head) and self._is_clean_end():
            self._can_stay = False
            self._settle()
        elif self._phase is HEAD and not self._unparsed:
            error = ClosedUnanswered(self._lost_text())
            error.unread = self._unread_bytes()
            self._fail(error)
        else:
            self._lose()

    def _unread_bytes(self) -> int:
        """How many of the last written bytes have not reached the other side's system. 0 if that is unknown."""
        queued = not_arrived(self._socket.fileno())
        unsent: int = self._transport.get_write_buffer_size()
        return 0 if queued is None else queued + unsent

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc)
        self._owner.lost(self)

    # -- for the parser ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._phase is WHOLE:
            self._can_stay = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._phase is not HEAD:
            return
        fields = self._fields
        if len(fields) > self._fields_left:
            self._fail(self._head_too_large())
            return
        status = self._parser.get_status_code()
        if not 200 <= status < 600:
            self._take_interim(status)
            return
        self._head = fields
        self._fields = []  # called for trailers, which are not read
        self._unparsed = 0
        self._phase = BODY
        assert self._exchange is not None
        self._exchange.begin(status, fields)

    def _take_interim(self, status: int) -> None:
        """Skip an interim response (RFC 9110 15.2). Its fields count towards the limit and are dropped."""
        if not 100 <= status < 200:
            # RFC 9110 15 knows no other statuses, but llhttp accepts any three digits.
            self._fail(
                UnknownHttpStatus(
                    f"{self._owner.origin} answers with the HTTP status {status:03}, which does not exist"
                )
            )
        self._fields_left -= len(self._fields)
        self._fields = []

    def on_chunk_header(self) -> None:
        if self._phase is BODY:
            assert self._exchange is not None
            error = self._framing.begin_chunk(self._head, self._exchange.received)
            if error is not None:
                self._fail(error)

    def on_chunk_complete(self) -> None:
        self._framing.end_chunk()

    def on_body(self, body: bytes) -> None:
        if self._phase is BODY:
            assert self._exchange is not None
            self._unparsed = 0
            error = self._exchange.add(body)
            if error is not None:
                self._fail(error)

    def on_message_complete(self) -> None:
        if self._phase is BODY:
            self._can_stay = self._can_stay and self._parser.should_keep_alive()
            self._phase = WHOLE

    def _check_what_is_to_come(self, nbytes: int) -> None:
        """Check, after a read that did not end the response, whether the rest will stay within its bounds."""
        if self._unparsed > MAX_RESPONSE_HEAD or len(self._fields) > self._fields_left:
            self._fail(self._head_too_large())
            return
        if self._phase is not BODY:
            return
        exchange = self._exchange
        assert exchange is not None
        found = self._framing.check(self._head, self._buffer[:nbytes], exchange.received)
        error = exchange.expect(found, self) if isinstance(found, int) else found
        if error is not None:
            self._fail(error)

    # -- the end of an exchange ----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Give a complete response to its caller, and the connection to its owner."""
        exchange, transport = self._exchange, self._transport
        assert exchange is not None
        if not (
            exchange.end()
            and self._can_stay
            # A server may answer before it has read the request. The unsent rest would then precede the next request.
            and not transport.get_write_buffer_size()
            and not transport.is_closing()
        ):
            self.abort()
            return
        if not self.served:
            self._remember_session()
            self._read_keep_alive()
        self.served += 1
        self._exchange = None
        self._phase = IDLE
        self._unparsed = 0
        self._fields_left = MAX_FIELDS
        if self._fields:
            self._fields = []
        if self._is_paused:
            self.resume()
        self._owner.released(self)

    def _fail(self, error: RpcError, cause: BaseException | None = None) -> None:
        exchange = self._exchange
        error.__cause__ = cause
        self.abort()
        if exchange is not None:
            exchange.fail(error)

    def _lose(self, cause: Exception | None = None) -> None:
        """End the exchange and tell the owner: the connection has ended."""
        self._fail(ConnectionLost(self._lost_text()), cause)

    def _lost_text(self) -> str:
        return f"the connection to {self._owner.origin} was lost before the answer was whole; the function may have run"

    def _head_too_large(self) -> BadReply:
        return BadReply(
            f"{self._owner.origin} answers with too large a head: "
            f"more than {MAX_RESPONSE_HEAD} bytes or {MAX_FIELDS} fields"
        )

    def _not_http(self) -> BadReply:
        return BadReply(f"{self._owner.origin} does not answer in HTTP/1.1")

    def _is_clean_end(self) -> bool:
        """Whether TLS (if used) confirms the end. A cut connection must not count as an end (RFC 9112 9.8)."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            # asyncio calls `eof_received` for both. Only after a close_notify can the end be read.
            return bool(tls.read(1) == b"")
        except ssl.SSLError:
            return False

    def _read_keep_alive(self) -> None:
        """Read when the server will close an idle connection, as many servers say (RFC 2068 19.7.1.1)."""
        for name, value in self._head:
            if name == b"keep-alive" and (found := _KEEP_ALIVE_TIMEOUT(value)):
                self._owner.keeps_alive(float(found[1]))

    def _remember_session(self) -> None:
        context = self._transport.get_extra_info("sslcontext")
        if isinstance(context, ResumingContext):
            context.remember(self._transport.get_extra_info("ssl_object"))
