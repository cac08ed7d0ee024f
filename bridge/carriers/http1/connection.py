"""One HTTP/1.1 connection: a request out, its response in, then the next one.

In: request heads and bodies as bytes; what the loop reads. Out: to an Exchange, the response as it comes; to the owner, when
the connection is free again and when it is gone. llhttp parses; what bounds the response's size is here and in the Exchange.

All connections of a pool read into one buffer: the loop fills it and hands it over in one step, and nothing of it is kept.
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
from bridge.carriers.http1.tls import ResumingContext
from bridge.rpc.errors import BadReply, ConnectionLost, RpcError, UnknownHttpStatus
from bridge.rpc.url import Origin

MAX_HEAD = 64 << 10
"""The largest head of a response that takes more than one read, interim responses included; and the most bytes between two parts of
a body. One read (HttpClient's buffer) bounds the rest."""

MAX_FIELDS = 512
"""Header fields of a response, interim responses included."""

MAX_LENGTH = 1 << 40
"""The largest declared length of a body or a chunk (bytes). What claims to be longer, up to 2⁶⁴, is a mistake or an attack."""

MAX_SIZE_LINE = 256
"""Bytes that are kept of the line before a chunk. It begins with the size, and seldom says more."""

JOINED_BELOW = 64 << 10
"""Below this size (bytes) a head and a body are joined for one write; above it copying costs more than a second write."""

_CHUNK_SIZE = re.compile(rb"0*([0-9A-Fa-f]+)[ \t]*(?:;.*)?", re.DOTALL).fullmatch
"""RFC 9112 7.1: the line before a chunk."""

_KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE).search

Fields = list[tuple[bytes, bytes]]
"""Header fields in the order received; names in lower case."""


class ClosedUnanswered(ConnectionLost):
    """The other side closed the connection in good order before the first byte of an answer."""

    unread = 0
    """The last so many bytes that were written had not reached the other side's system by then. 0: nothing is known of it."""


class Exchange(Protocol):
    """Takes one response. What it finds wrong it returns, and the connection ends with it."""

    def begin(self, status: int, fields: Fields) -> None:
        """The head has come."""
        ...

    def expect(self, length: int, connection: Connection) -> RpcError | None:
        """The declared length of a body, or of one of its chunks, that did not come whole in one read."""
        ...

    def add(self, body: bytes) -> RpcError | None:
        """A part of the body."""
        ...

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        ...

    def end(self) -> bool:
        """The response is whole. Whether anybody still waited for it."""
        ...

    def fail(self, error: RpcError) -> None:
        """The response will not become whole."""
        ...


class Owner(Protocol):
    """Whose connection it is."""

    origin: Origin

    def opened(self, connection: Connection) -> None: ...

    def keeps_alive(self, seconds: float) -> None:
        """The server says for how long it keeps idle connections."""
        ...

    def released(self, connection: Connection) -> None:
        """It may carry the next request."""
        ...

    def lost(self, connection: Connection) -> None: ...


class Phase(Enum):
    """How far the connection is with a response."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    WHOLE = auto()
    """Until the bytes that came with its end are read: there should be none."""
    CLOSED = auto()


IDLE, HEAD, BODY, WHOLE, CLOSED = Phase


class Connection(asyncio.BufferedProtocol):
    """One exchange at a time."""

    def __init__(self, owner: Owner, opened: socket.socket, buffer: memoryview) -> None:
        self._owner = owner
        self._socket = opened
        self._buffer = buffer
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._phase: Phase = IDLE
        self._head: Fields = []
        self._fields: Fields = []
        self._fields_left = MAX_FIELDS
        """How many fields the response may have, less those of its interim responses."""
        self._announced: Fields | None = None
        """The head whose framing has been looked at, because its body did not come whole."""
        self._unparsed = 0
        self._chunk_from: int | None = None
        """How long the body was when the chunk began that is under way; None: there is none, or its size was looked at."""
        self._size_line = b""
        """What a read ended with, after its last line break: it may be how the line with a chunk's size begins."""
        self._is_chunked = False
        self._can_stay = True
        self._is_paused = False
        self.served = 0
        """Responses received whole."""
        self.idle_since = 0.0
        """Loop time."""

    # -- for the owner ---------------------------------------------------------------------------------------------------

    def is_usable(self) -> bool:
        return self._phase is IDLE and not self._transport.is_closing()

    def has_news(self) -> bool:
        """Whether bytes, or the end, have arrived that the loop has not read yet: on an idle connection, the end of it."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def start(self, exchange: Exchange, head: bytes, body: bytes | Sequence[bytes]) -> bool:
        """Send a request. False: not a byte of it left this process, the connection is dead and the exchange not begun."""
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
            # The first attempt to send failed; a transport that has sent anything keeps the rest for later.
            return False
        self._exchange = exchange
        self._phase = HEAD
        return True

    def abort(self) -> None:
        """Close now: nothing that is unsent goes out."""
        self._phase = CLOSED
        self._exchange = None
        self._transport.abort()

    def close(self) -> None:
        """Abort; an exchange under way fails with ConnectionLost."""
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

    # -- for the loop ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio.Transports, but not by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self._owner.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._exchange is None:
            # Idle: a server has nothing to say before it is asked. Closed: nobody listens.
            self.abort()
            return
        self._unparsed += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserCallbackError:
            raise  # a bug of ours: the loop logs it and closes the connection
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
        """How many of the last bytes written have not reached the other side's system; 0 where that cannot be known."""
        queued = not_arrived(self._socket.fileno())
        unsent: int = self._transport.get_write_buffer_size()
        return 0 if queued is None else queued + unsent

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc)
        self._owner.lost(self)

    # -- for the parser --------------------------------------------------------------------------------------------------

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
        self._fields = []  # for trailers, which nobody reads
        self._unparsed = 0
        self._phase = BODY
        assert self._exchange is not None
        self._exchange.begin(status, fields)

    def _take_interim(self, status: int) -> None:
        """RFC 9110 15.2: the response is still to come. The fields of an interim one count, and mean nothing."""
        if not 100 <= status < 200:
            # RFC 9110 15: there are no others. llhttp takes any three digits.
            self._fail(UnknownHttpStatus(f"{self._owner.origin} answers with the HTTP status {status:03}, which does not exist"))  # fmt: skip
        self._fields_left -= len(self._fields)
        self._fields = []

    def on_chunk_header(self) -> None:
        if self._announced is not self._head:
            # A response may end in the read that brings its head; where these bytes are cut, llhttp may see another coding.
            self._take_codings()
        if self._phase is BODY:
            assert self._exchange is not None
            self._chunk_from = self._exchange.received

    def on_chunk_complete(self) -> None:
        self._chunk_from = None

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
        """After a read that did not end the response: will the rest stay within its bounds?"""
        if self._unparsed > MAX_HEAD or len(self._fields) > self._fields_left:
            self._fail(self._head_too_large())
            return
        if self._phase is not BODY:
            return
        if self._announced is not self._head:
            self._take_codings()
            if self._phase is not BODY:
                return
            self._expect(declared_length(self._head))
        if self._is_chunked:
            self._check_chunk(nbytes)

    def _take_codings(self) -> None:
        """Note how the body is framed. A transfer coding that nobody asked for ends the exchange."""
        self._announced = self._head
        codings = transfer_codings(self._head)
        if codings not in ([], [b"chunked"], [b"identity"]):
            self._fail(
                BadReply(
                    f"{self._owner.origin} answers in a transfer coding that was not asked for"
                )
            )
        self._is_chunked = codings == [b"chunked"]

    def _check_chunk(self, nbytes: int) -> None:
        """Look at the size of the chunk in which the read ended. llhttp says that a chunk begins, and not how long it will be."""
        exchange, begun = self._exchange, self._chunk_from
        assert exchange is not None
        self._chunk_from = None
        # Before the chunk's bytes stands the line with its size, of which the last read may have had the beginning.
        end = nbytes if begun is None else nbytes - (exchange.received - begun)
        text = bytes(self._buffer[max(0, end - MAX_SIZE_LINE) : end])
        if b"\n" not in text[:-2]:  # a long line, or the beginning of it was in the last read
            text = self._size_line + bytes(self._buffer[:end])
        is_size = begun is not None and text.endswith(b"\r\n")
        line = (text.removesuffix(b"\r\n") if is_size else text).rpartition(b"\n")[2]
        self._size_line = line[:MAX_SIZE_LINE] if begun is None else b""
        # The last chunk, of no bytes, is under way until its trailers have come: then what stands here is one of them.
        size = _CHUNK_SIZE(line) if is_size else None
        if size is not None:
            self._expect(int(size[1], 16))

    def _expect(self, length: int | None) -> None:
        assert self._exchange is not None
        if length is None:
            return
        if length >= MAX_LENGTH:
            self._fail(BadReply(f"{self._owner.origin} announces {length} bytes, which is no length of a reply"))  # fmt: skip
            return
        error = self._exchange.expect(length, self)
        if error is not None:
            self._fail(error)

    # -- the end of an exchange ------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """The response is whole: give it, and the connection, on."""
        exchange, transport = self._exchange, self._transport
        assert exchange is not None
        if not (
            exchange.end()
            and self._can_stay
            # A server may answer before it has read the request; what is still unsent would come before the next one.
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
        """The connection ended, whatever it was doing."""
        self._fail(ConnectionLost(self._lost_text()), cause)

    def _lost_text(self) -> str:
        return f"the connection to {self._owner.origin} was lost before the answer was whole; the function may have run"

    def _head_too_large(self) -> BadReply:
        return BadReply(
            f"{self._owner.origin} answers with too large a head: more than {MAX_HEAD} bytes or {MAX_FIELDS} fields"
        )

    def _not_http(self) -> BadReply:
        return BadReply(f"{self._owner.origin} does not answer in HTTP/1.1")

    def _is_clean_end(self) -> bool:
        """Whether TLS, if there is any, says that this is the end: a cut must not pass for one (RFC 9112 9.8)."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            # asyncio calls `eof_received` for both; only after a close_notify there is an end to read.
            return bool(tls.read(1) == b"")
        except ssl.SSLError:
            return False

    def _read_keep_alive(self) -> None:
        """Many servers say when they will close an idle connection (RFC 2068 19.7.1.1)."""
        for name, value in self._head:
            if name == b"keep-alive" and (found := _KEEP_ALIVE_TIMEOUT(value)):
                self._owner.keeps_alive(float(found[1]))

    def _remember_session(self) -> None:
        context = self._transport.get_extra_info("sslcontext")
        if isinstance(context, ResumingContext):
            context.remember(self._transport.get_extra_info("ssl_object"))


def declared_length(fields: Fields) -> int | None:
    """The length that the head of a response declares for its body, which llhttp has found to be one number below 2⁶⁴."""
    for name, value in fields:
        if name == b"content-length":
            return int(value.strip().lstrip(b"0") or b"0")
    return None


def transfer_codings(fields: Fields) -> list[bytes]:
    """The transfer codings that the head of a response names, in lower case."""
    values = b",".join(value for name, value in fields if name == b"transfer-encoding")
    return [coding.strip().lower() for coding in values.split(b",") if coding.strip()]


def ends_with_connection(fields: Fields) -> bool:
    """Whether nothing in the head says where the body ends (RFC 9112 6.3)."""
    codings = transfer_codings(fields)
    if codings:
        return codings[-1] != b"chunked"
    return declared_length(fields) is None
