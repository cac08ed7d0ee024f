"""gRPC-Web, as a backend answers in it (gRPC PROTOCOL-WEB): messages as they are, then an envelope that holds the
trailers.

In go the HTTP status, headers and body of a reply, whole or in any chunks; out come response events. A request needs no
codec: its gRPC body is a gRPC-Web body already. Knows nothing of how the reply travelled.
"""

from __future__ import annotations

import re
from binascii import a2b_base64

from bridge.codecs.codec import BodyReader, ReplyOptions
from bridge.codecs.enveloped import EnvelopedBody, wrong_format
from bridge.codecs.error_excerpts import broken_off, http_refusal
from bridge.codecs.fields import ReplyFields, sort_fields
from bridge.rpc.envelope import PREFIX_SIZE, TRAILERS, envelope, parse_prefix
from bridge.rpc.errors import BadReply, FunctionFailed, HttpRefusal, NoStatus, RpcError
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS, Headers, Message, ResponseEvent, Trailers
from bridge.rpc.metadata import Metadata
from bridge.rpc.status import Status, StatusCode

MAX_TRAILERS = 1 << 20
"""Bytes of a reply's trailers, inflated. What reaches the client is bounded far below this, by `max_trailers`."""

MOST_LINES = 1000
"""Lines of a reply's trailers."""


class GrpcWebReader:
    """Reads one reply: `feed` it the body in any chunks, then `finish`. The events and the outcome do not depend on the
    chunks.

    Both raise BadReply, ReplyTooLarge and FunctionFailed; `finish` also NoStatus and HttpRefusal. A status is given out
    by `finish` alone, because bytes behind the trailers make the reply a bad one.
    """

    __slots__ = ("_body", "_fields", "_http_status", "_text")

    convert = None

    def __init__(self, http_status: int, headers: Metadata, options: ReplyOptions) -> None:
        self._http_status = http_status
        self._fields = _PLAIN if headers == _PLAIN_HEADERS else sort_fields(headers)
        found = _CONTENT_TYPE(self._fields.content_type)
        self._text = _Base64Text() if found is not None and found["text"] else None
        self._body = EnvelopedBody(
            self._fields,
            options,
            max_trailers=MAX_TRAILERS,
            is_framed=found is not None,
            failure=wrong_format(found, options.message_format),
        )

    @property
    def held(self) -> int:
        return len(self._body)

    @property
    def is_behind(self) -> bool:
        return self._body.is_behind

    @property
    def wants_more(self) -> bool:
        """Whether more of the body can change the outcome."""
        return self._body.wants_more

    @property
    def has_ended(self) -> bool:
        """Whether the trailers have come."""
        return self._body.trailers is not None

    def open(self) -> list[ResponseEvent]:
        """Return the Headers, if they can leave before any of the body has come: for replies that are streamed."""
        if self._http_status != 200 or self._fields.status is not None:
            return []
        return self._body.open()

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Return the events that these bytes complete."""
        if not data and not self._body.is_behind:
            return []
        try:
            if self._text is None:
                return self._body.feed(data, _not_grpc)
            return self._feed_text(data, self._text)
        except RpcError as error:
            raise self._blame(error) from error.__cause__

    def _feed_text(self, data: bytes, text: _Base64Text) -> list[ResponseEvent]:
        events = self._body.feed(text.feed(data), _not_grpc)
        if text.is_broken and self._body.failure is None:
            self._body.fail(_not_base64(), events)
        return events

    # -- the end -------------------------------------------------------------------------------------------------------

    def finish(self) -> list[ResponseEvent]:
        """Return the end of the reply. The trailers' status counts, or that of the headers if they have none."""
        body, status = self._body, self._fields.status
        if status is not None and not body.has_begun:
            # In a trailers-only reply the headers are the trailers (PROTOCOL-WEB).
            return [Trailers(status, self._fields.metadata)]
        if not body.is_framed:
            if status is None or status.code is StatusCode.OK:
                raise self._not_grpc_web()
            return [Trailers(status, self._fields.metadata)]
        if body.failure is not None and body.has_begun:
            raise self._blame(body.failure)
        if body.trailers is None and (status is None or self._is_inside_message):
            raise self._unfinished()
        if self._text is not None and not self._text.is_whole:
            raise self._blame(_not_base64())
        return self._end(body.trailers or b"")

    @property
    def _is_inside_message(self) -> bool:
        return bool(self._body.rest) or (self._text is not None and not self._text.is_whole)

    def _end(self, block: bytes) -> list[ResponseEvent]:
        known = _USUAL_TRAILERS.get(block) or self._trailers(block)
        initial = self._fields.metadata
        headers = self._body.headers
        if headers is None:
            return [known]
        if self._fields.status is not None or all(name.startswith("grpc-") for name, _ in initial):
            # The client has seen nothing yet, so send trailers only. It may then retry (gRFC A6). Headers that
            # hold the status are trailers themselves.
            return [Trailers(known.status, initial + known.metadata) if initial else known]
        return [headers, known]

    def _trailers(self, block: bytes) -> Trailers:
        """Return what the block says. Servers may write the status into the headers and then an empty block, or one of
        other fields.
        """
        lines, told = _lines(block), self._fields.status
        if told is not None:
            lines.append(
                ("grpc-status", str(int(told.code)))
            )  # the block's own stands before it, and the first one counts
        fields = sort_fields(lines)
        if fields.status is None:
            raise self._blame(NoStatus("the function's trailers hold no grpc-status"))
        if told is not None and fields.status == Status(told.code):
            return Trailers(told, fields.metadata)  # with its message and details
        return Trailers(fields.status, fields.metadata)

    def _unfinished(self) -> RpcError:
        """Why there are no trailers, though nothing was lost on the way: the carrier knows of that."""
        broken = broken_off(self._body.rest)
        if broken is not None:
            return FunctionFailed(broken)
        if self._http_status != 200:
            return self._http_refusal()
        if self._is_inside_message:
            return BadReply("the function's reply ends in the middle of a message")
        if not self._body.has_begun:
            return NoStatus("the function answered HTTP 200 with neither body nor grpc-status")
        return NoStatus("the function's reply has no trailers: it crashed, ran out of time, or is no gRPC-Web server")

    def _blame(self, error: RpcError) -> RpcError:
        """Return the HTTP error, if there is one, in place of an error of the body. It explains more."""
        if self._http_status != 200 and isinstance(error, BadReply | NoStatus):
            return self._http_refusal()
        return error

    def _http_refusal(self) -> HttpRefusal:
        return http_refusal(self._http_status, b"" if self._body.is_framed else self._body.rest)

    def _not_grpc_web(self) -> RpcError:
        if self._http_status != 200:
            return self._http_refusal()
        kind = self._fields.content_type[:80]
        named = f"with content-type {kind}" if kind else "without a content-type"
        return NoStatus(f"the function answered {named} in place of application/grpc-web")


class GrpcWeb:
    """The codec."""

    encode = None
    convert = None
    reader = GrpcWebReader

    def read(
        self, http_status: int, headers: Metadata, body: bytes, options: ReplyOptions
    ) -> list[ResponseEvent] | BodyReader:
        """See Codec.read. The common reply is one message that is not compressed, then status OK. Its events are those
        that the reader would return, for a fifth of the cost.
        """
        if http_status != 200 or options.message_format != "proto" or len(body) < PREFIX_SIZE:
            return GrpcWebReader(http_status, headers, options)
        flags, size = parse_prefix(body)
        end, limit = PREFIX_SIZE + size, options.max_response
        if flags or (limit is not None and size > limit) or body[end : end + _LONGEST_USUAL_END + 1] not in _USUAL_ENDS:
            return GrpcWebReader(http_status, headers, options)
        if headers == _PLAIN_HEADERS:
            return [EMPTY_HEADERS, Message(body[:end]), OK_TRAILERS]
        fields = sort_fields(headers)
        if fields.content_type != _PLAIN.content_type or fields.encoding:
            return GrpcWebReader(http_status, headers, options)
        return [Headers(fields.metadata), Message(body[:end]), OK_TRAILERS]


def _not_grpc(body: bytes | bytearray, at: int) -> BadReply:
    hint = "; is it base64 without isBase64Encoded?" if body[at : at + 1].isalnum() else ""
    return BadReply(
        f"a message of the function begins with flag byte 0x{body[at]:02x}, which gRPC-Web does not know{hint}"
    )


def _not_base64() -> BadReply:
    return BadReply("the function's grpc-web-text reply is not base64")


_CONTENT_TYPE = re.compile(r"application/grpc(?:-web(?P<text>-text)?)?(?:\+(?P<format>.+))?").fullmatch
"""`application/grpc` too: what some servers call gRPC-Web once it has passed a proxy."""

_PLAIN_HEADERS: Metadata = (("content-type", "application/grpc-web+proto"),)
_PLAIN = ReplyFields((), None, "application/grpc-web+proto")
"""The headers that most replies have, sorted."""


# -- trailers ----------------------------------------------------------------------------------------------------------

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
    """Return the fields in a trailers envelope. Tolerates what servers vary in: case, spaces, bare LF, the last line's
    end. Raises BadReply.
    """
    fields = []
    lines = block.decode("latin-1").split("\n", MOST_LINES)
    if len(lines) > MOST_LINES and lines.pop().strip():
        raise BadReply(f"the function's trailers have more than {MOST_LINES} lines")
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.append((name.strip().lower(), value.strip()))
        elif name.strip():
            raise BadReply("a line of the function's trailers is not `name: value`")
    return fields


# -- text --------------------------------------------------------------------------------------------------------------


class _Base64Text:
    """Undoes application/grpc-web-text: base64 in pieces, each of which may end in padding (PROTOCOL-WEB)."""

    __slots__ = ("_rest", "is_broken")

    def __init__(self) -> None:
        self._rest = b""
        self.is_broken = False
        """Whether invalid base64 was found. Everything before it has been returned."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes behind this text, up to where it stops being base64."""
        text = self._rest + data
        whole = len(text) - len(text) % 4
        found = _GROUPS(text, 0, whole)
        good = found.end() if found is not None else 0
        self._rest = text[whole:]
        self.is_broken = good < whole
        return b"".join([a2b_base64(piece) for piece in _PIECES(text, 0, good)])

    @property
    def is_whole(self) -> bool:
        """Whether it may end here: not within a group of four characters."""
        return not self.is_broken and not self._rest


_GROUPS = re.compile(rb"(?>(?:[A-Za-z0-9+/]{4})++|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)*+").match
"""As many characters as are base64, in groups of four."""


_PIECES = re.compile(rb"[^=]+=*").findall
"""Of a valid text, each with its padding."""
