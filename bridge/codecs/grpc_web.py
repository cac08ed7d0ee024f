"""gRPC-Web, as a backend answers in it (gRPC PROTOCOL-WEB): messages as they are, then an envelope that holds the trailers.

In go the HTTP status, headers and body of a reply, whole or in any chunks; out come response events. A request needs no
codec: its gRPC body is a gRPC-Web body already. Knows nothing of how the reply travelled.
"""

from __future__ import annotations

import re
from binascii import a2b_base64

from bridge.codecs.fields import ReplyFields, sort_fields
from bridge.codecs.inflation import inflater_for
from bridge.codecs.texts import ERROR_MARK, OPAQUE_KEPT, broken_off, http_refusal
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, TRAILERS, envelope
from bridge.rpc.errors import (
    BadReply,
    CutReply,
    FunctionFailed,
    HttpRefusal,
    NoStatus,
    ReplyTooLarge,
    RpcError,
)
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.metadata import Metadata

MAX_TRAILERS = 1 << 20
"""Bytes of a reply's trailers, inflated. What reaches the client is bounded far below this, by `max_trailers`."""


def usual_reply(
    http_status: int,
    headers: Metadata,
    body: bytes,
    *,
    max_response: int | None,
    message_format: str,
) -> list[ResponseEvent] | None:
    """The events of a whole reply that is as most are: one message as it is, then OK. None: read it with a GrpcWebReader.

    What it returns is what the reader would make of the reply, for a fifth of the price.
    """
    if http_status != 200 or message_format != "proto" or len(body) < PREFIX_SIZE or body[0]:
        return None
    size = int.from_bytes(body[1:PREFIX_SIZE], "big")
    end = PREFIX_SIZE + size
    is_bounded = max_response is None or size <= max_response
    if not is_bounded or len(body) - end > _LONGEST_USUAL_END or body[end:] not in _USUAL_ENDS:
        return None
    if headers == _PLAIN_HEADERS:
        return [EMPTY_HEADERS, Message(body[:end]), OK_TRAILERS]
    fields = sort_fields(headers)
    if fields.content_type != _PLAIN.content_type or fields.encoding:
        return None
    return [Headers(fields.metadata), Message(body[:end]), OK_TRAILERS]


class GrpcWeb:
    """The codec."""

    is_identity = False

    def encode(self, path: str, message_format: str, body: bytes) -> bytes:  # noqa: ARG002 - the same for every method and format
        return body

    def reader(
        self,
        http_status: int,
        headers: Metadata,
        *,
        path: str,  # noqa: ARG002 - the same for every method
        accept_encoding: str | None,
        max_response: int | None,
        message_format: str,
    ) -> GrpcWebReader:
        return GrpcWebReader(
            http_status,
            headers,
            accept_encoding=accept_encoding,
            max_response=max_response,
            message_format=message_format,
        )


class GrpcWebReader:
    """Reads one reply: `feed` it the body in any chunks, then `finish`. The events and the outcome do not depend on the chunks.

    Both raise BadReply, ReplyTooLarge and FunctionFailed; `finish` also CutReply, NoStatus and HttpRefusal. A status is given out
    by `finish` alone, because bytes behind the trailers make the reply a bad one.
    """

    __slots__ = ("_block", "_body", "_failure", "_fields", "_has_body", "_headers", "_http_status", "_inflater",
                 "_is_framed", "_max_response", "_text")  # fmt: skip

    def __init__(
        self,
        http_status: int,
        headers: Metadata,
        *,
        accept_encoding: str | None,
        max_response: int | None,
        message_format: str = "proto",
    ) -> None:
        """`accept_encoding`: what the client lists. `max_response`: bytes of one message. `message_format`: the client's subtype."""
        self._http_status = http_status
        self._fields = fields = _PLAIN if headers == _PLAIN_HEADERS else sort_fields(headers)
        self._max_response = max_response
        self._body = bytearray()
        """Bytes that do not make an envelope yet; the beginning of a body that is no gRPC-Web."""
        self._block: bytes | None = None
        """The trailers, as the last envelope holds them."""
        self._has_body = False
        self._failure: RpcError | None = None
        """What goes wrong behind events that have to be given out first."""
        found = _CONTENT_TYPE(fields.content_type)
        self._is_framed = found is not None
        self._text = _Base64Text() if found is not None and found["text"] else None
        sent_format = found["format"] if found is not None else None
        if sent_format is not None and sent_format != message_format:
            self._failure = BadReply(
                f"the function answered in {sent_format[:40]} messages, the client speaks {message_format[:40]}"
            )
        self._inflater = inflater_for(
            fields.encoding, accept_encoding=accept_encoding, max_response=max_response
        )
        self._headers: Headers | None = self._make_headers()
        """None once they are given out."""

    def _make_headers(self) -> Headers:
        fields = self._fields
        if fields.encoding and not self._inflater.is_needed:
            return Headers((("grpc-encoding", fields.encoding), *fields.metadata))
        return Headers(fields.metadata) if fields.metadata else EMPTY_HEADERS

    @property
    def wants_more(self) -> bool:
        """Whether more of the body can change the outcome."""
        return self._is_framed or len(self._body) < OPAQUE_KEPT

    @property
    def has_ended(self) -> bool:
        """Whether the trailers have come."""
        return self._block is not None

    def open(self) -> list[ResponseEvent]:
        """The Headers, if they can leave before any of the body has come: for replies that are streamed."""
        may_still_fail = (
            self._http_status != 200 or not self._is_framed or self._failure is not None
        )
        if self._fields.status is not None or may_still_fail:
            return []
        return self._take_headers()

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """The events that these bytes complete."""
        if not data:
            return []
        self._has_body = True
        if not self._is_framed:
            self._body += data[: OPAQUE_KEPT - len(self._body)]
            return []
        if self._failure is not None:
            raise self._blame(self._failure)
        events: list[ResponseEvent] = []
        try:
            if self._text is None:
                self._read(data, events)
            else:
                self._read(self._text.feed(data), events)
                self._check_text(self._text)
        except RpcError as error:
            if not events:
                raise self._blame(error) from error.__cause__
            self._failure = error
        return events

    def _read(self, data: bytes, events: list[ResponseEvent]) -> None:
        """Cuts what has come into envelopes, along an index: the buffer moves once a chunk, not once a message."""
        body: bytes | bytearray = data
        if self._body:
            self._body += data
            body = self._body
        at, end = 0, len(body)
        try:
            while at < end:
                if self._block is not None:
                    raise BadReply("the function's reply goes on behind its trailers")
                flags = body[at]
                if flags & ~_KNOWN_FLAGS:
                    self._check_error_text(body, at)
                    break
                start = at + PREFIX_SIZE
                if start > end:
                    break
                size = int.from_bytes(body[at + 1 : start], "big")
                self._check_size(flags, size)
                if start + size > end:
                    break
                if flags & TRAILERS:
                    block = bytes(body[start : start + size])
                    if flags & COMPRESSED:
                        block = self._inflater.inflate(block, MAX_TRAILERS, "trailers")
                    self._block = block
                else:
                    message = bytes(body[at : start + size])
                    if flags:
                        message = self._inflater.acceptable(message)
                    events += self._take_headers()
                    events.append(Message(message))
                at = start + size
        finally:
            if self._body:
                del self._body[:at]
            elif at < end:
                self._body += body[at:]

    def _check_text(self, text: _Base64Text) -> None:
        if text.is_broken:
            raise self._blame(BadReply("the function's grpc-web-text reply is not base64"))

    def _take_headers(self) -> list[ResponseEvent]:
        headers, self._headers = self._headers, None
        return [] if headers is None else [headers]

    def _check_size(self, flags: int, size: int) -> None:
        if flags & TRAILERS:
            if size > MAX_TRAILERS:
                raise ReplyTooLarge(
                    f"the function's trailers of {size} bytes are above {MAX_TRAILERS}"
                )
        elif self._max_response is not None and size > self._max_response:
            raise ReplyTooLarge(
                f"a response message of {size} bytes is above max_response ({self._max_response} bytes)"
            )

    # -- the end --------------------------------------------------------------------------------------------------------

    def finish(self) -> list[ResponseEvent]:
        """The reply is over: its end."""
        if not self._has_body and self._fields.status is not None:
            # In a trailers-only reply the headers are the trailers (PROTOCOL-WEB).
            return [Trailers(self._fields.status, self._fields.metadata)]
        if not self._is_framed:
            raise self._not_grpc_web()
        if self._failure is not None and self._has_body:
            raise self._blame(self._failure)
        if self._block is None:
            raise self._unfinished()
        if self._text is not None:
            self._text.finish()
            self._check_text(self._text)
        return self._end(self._block)

    def _end(self, block: bytes) -> list[ResponseEvent]:
        known = _USUAL_TRAILERS.get(block)
        if known is None:
            fields = sort_fields(_lines(block))
            if fields.status is None:
                raise self._blame(NoStatus("the function's trailers hold no grpc-status"))
            known = Trailers(fields.status, fields.metadata)
        initial = self._fields.metadata
        if self._headers is None:
            return [known]
        if all(name.startswith("grpc-") for name, _ in initial):
            # Nothing for the client to see before the end: trailers-only, which leaves it free to try again (gRFC A6).
            return [Trailers(known.status, initial + known.metadata) if initial else known]
        return [self._headers, known]

    def _unfinished(self) -> RpcError:
        """Why there are no trailers."""
        broken = broken_off(self._body)
        if broken is not None:
            return FunctionFailed(broken)
        if self._http_status != 200:
            return self._http_refusal()
        if not self._has_body:
            return NoStatus("the function answered HTTP 200 with neither body nor grpc-status")
        return CutReply(
            "the function's reply ended before its trailers: it crashed, ran out of time, or is no gRPC-Web server"
        )

    def _blame(self, error: RpcError) -> RpcError:
        """An HTTP error explains a body that does not read better than the body does."""
        if self._http_status != 200 and isinstance(error, BadReply | NoStatus):
            return self._http_refusal()
        return error

    def _http_refusal(self) -> HttpRefusal:
        return http_refusal(self._http_status, b"" if self._is_framed else self._body)

    def _not_grpc_web(self) -> RpcError:
        if self._http_status != 200:
            return self._http_refusal()
        kind = self._fields.content_type[:80]
        named = f"with content-type {kind}" if kind else "without a content-type"
        return NoStatus(f"the function answered {named} in place of application/grpc-web")

    def _check_error_text(self, body: bytes | bytearray, at: int) -> None:
        """Returns if what stands in place of an envelope can be a runtime's report that the function's stream failed."""
        beginning = bytes(body[at : at + len(ERROR_MARK)])
        if ERROR_MARK.startswith(beginning) and len(body) - at <= MAX_TRAILERS:
            return
        hint = "; is it base64 without isBase64Encoded?" if beginning[:1].isalnum() else ""
        raise BadReply(
            f"a message of the function begins with flag byte 0x{body[at]:02x}, which gRPC-Web does not know{hint}"
        )


_KNOWN_FLAGS = COMPRESSED | TRAILERS

_CONTENT_TYPE = re.compile(
    r"application/grpc(?:-web(?P<text>-text)?)?(?:\+(?P<format>.+))?"
).fullmatch
"""`application/grpc` too: what some servers call gRPC-Web once it has passed a proxy."""

_PLAIN_HEADERS: Metadata = (("content-type", "application/grpc-web+proto"),)
_PLAIN = ReplyFields((), None, "application/grpc-web+proto")
"""The headers that most replies have, sorted."""


# -- trailers ------------------------------------------------------------------------------------------------------------

_USUAL_TRAILERS = {
    b"grpc-status:0\r\n": OK_TRAILERS,
    b"grpc-status: 0\r\n": OK_TRAILERS,
    b"grpc-status:0\r\ngrpc-message:\r\n": OK_TRAILERS,
    b"grpc-status: 0\r\ngrpc-message: \r\n": OK_TRAILERS,
    b"grpc-message: \r\ngrpc-status: 0\r\n": OK_TRAILERS,
}
"""The end of most calls, as servers write it."""

_USUAL_ENDS = {envelope(block, flags=TRAILERS) for block in _USUAL_TRAILERS}
_LONGEST_USUAL_END = max(map(len, _USUAL_ENDS))


def _lines(block: bytes) -> list[tuple[str, str]]:
    """The fields in a trailers envelope. Tolerates what servers vary in: case, spaces, bare LF, the last line's end."""
    fields = []
    for line in block.decode("latin-1").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields.append((name.strip().lower(), value.strip()))
        elif name.strip():
            raise BadReply("a line of the function's trailers is not `name: value`")
    return fields


# -- text ----------------------------------------------------------------------------------------------------------------


class _Base64Text:
    """Undoes application/grpc-web-text: base64 in pieces, each of which may end in padding (PROTOCOL-WEB)."""

    __slots__ = ("_rest", "is_broken")

    def __init__(self) -> None:
        self._rest = b""
        self.is_broken = False
        """Whether it stopped being base64; all before that has been given out."""

    def feed(self, data: bytes) -> bytes:
        """The bytes behind this text, up to where it stops being base64."""
        text = self._rest + data
        whole = len(text) - len(text) % 4
        found = _GROUPS(text, 0, whole)
        good = found.end() if found is not None else 0
        self._rest = text[whole:]
        self.is_broken = good < whole
        return b"".join([a2b_base64(piece) for piece in _PIECES(text, 0, good)])

    def finish(self) -> None:
        """The text is over: a group of four characters must not be."""
        self.is_broken = self.is_broken or bool(self._rest)


_GROUPS = re.compile(rb"(?>(?:[A-Za-z0-9+/]{4})++|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)*+").match
"""As many characters as are base64, in groups of four."""


_PIECES = re.compile(rb"[^=]+=*").findall
"""Of a valid text, each with its padding."""
