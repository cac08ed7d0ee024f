"""Connect (connectrpc.com/docs/protocol): unary calls as plain HTTP with an HTTP status, streams in envelopes whose
last one tells the end.

Both in protobuf and JSON; unary methods that say `idempotency_level = NO_SIDE_EFFECTS` by GET too.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from lambda_fn import compression, metadata, transcode
from lambda_fn.http import Headers, HttpReply, HttpRequest, plain_reply
from lambda_fn.percent import pairs_in
from lambda_fn.protocols.grpc_web import frame, messages_in
from lambda_fn.protocols.http_status import HTTP_STATUS, details_in, without_details
from lambda_fn.protocols.protocol import Accepted, Exchange, callers_fault, method_of
from lambda_fn.rpc import IDENTITY, IncomingCall, WholeReply
from lambda_fn.status import INVALID_ARGUMENT, OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, Metadata, Refused, Status
from lambda_fn.transcode import Codec

_STREAMS = "application/connect+"
_COMPRESSED, _END = 0x01, 0x02
_NO_SIDE_EFFECTS = 1
"""MethodOptions.IdempotencyLevel in google/protobuf/descriptor.proto."""

_TIMEOUT_DIGITS = 10
_USUAL_ALPHABET = bytes.maketrans(b"-_", b"+/")

_PARAMETERS = ("base64", "compression", "connect", "encoding", "message")
_is_get = re.compile(rf"(?:^|&)(?:{'|'.join(_PARAMETERS)})=").search

CODE_NAMES = (
    "",
    "canceled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
)
"""Connect's spelling of the codes, by their number."""


def accept(request: HttpRequest, services: Callable[[], list[str]]) -> Accepted:
    """Accept Connect's own content types, and JSON or a GET where the path names a registered service."""
    content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    method = method_of(request.path)
    is_known = _is_known(method, services)
    if request.method == "GET" and is_known and _is_get(request.query_string):
        return _accept_get(request, method)
    if content_type.startswith(_STREAMS):
        format_, answer = content_type.removeprefix(_STREAMS), _accept_stream
    elif content_type == "application/proto" or (content_type == "application/json" and is_known):
        format_, answer = content_type.removeprefix("application/"), _accept_unary
    else:
        return None
    if request.method != "POST":
        return plain_reply(405, "a Connect call is a POST", headers=(("allow", "POST"),))
    if format_ not in ("proto", "json"):
        return plain_reply(415, "Connect's messages are proto or json here")
    return answer(request, method, format_, is_known=is_known)


def _is_known(method: str, services: Callable[[], list[str]]) -> bool:
    return method[1:].partition("/")[0] in services()


def _codec(format_: str, descriptor: Any) -> Codec:
    if format_ == "json":
        return transcode.json_codec(descriptor, prints_defaults=False)
    return transcode.PROTO


def _accept_unary(request: HttpRequest, method: str, format_: str, *, is_known: bool) -> Accepted:
    descriptor = transcode.find_method(method)
    if descriptor is not None and _streams(descriptor):
        return plain_reply(415, f"{method} streams: its content type is {_STREAMS}{format_}")
    codec = _codec(format_, descriptor)
    return Exchange(
        UnaryResponder(format_, codec, is_known=is_known),
        callers_fault(partial(_decode_unary, request, method, codec)),
    )


def _accept_stream(request: HttpRequest, method: str, format_: str, *, is_known: bool) -> Accepted:
    descriptor = transcode.find_method(method)
    if descriptor is not None and not _streams(descriptor):
        return plain_reply(415, f"{method} is unary: its content type is application/{format_}")
    codec = _codec(format_, descriptor)
    return Exchange(
        StreamResponder(format_, codec, is_known),
        callers_fault(partial(_decode_stream, request, method, codec)),
    )


def _accept_get(request: HttpRequest, method: str) -> Accepted:
    descriptor = transcode.find_method(method)
    may_get = (
        descriptor is not None
        and descriptor.GetOptions().idempotency_level == _NO_SIDE_EFFECTS
        and not _streams(descriptor)
    )
    if not may_get:
        return plain_reply(405, f"{method} is called by POST", headers=(("allow", "POST"),))
    try:
        asked = _asked(request)
    except Refused as refusal:
        return UnaryResponder("json", transcode.PROTO).whole(WholeReply(refusal.status))
    format_ = asked["encoding"].decode("ascii", "replace")
    if format_ not in ("proto", "json"):
        return plain_reply(415, "Connect's messages are proto or json here")
    codec = _codec(format_, descriptor)
    return Exchange(
        UnaryResponder(format_, codec),
        callers_fault(partial(_decode_get, request, method, asked, codec)),
    )


def _asked(request: HttpRequest) -> dict[str, bytes]:
    """Return Connect's parameters of a GET. Raises Refused if the encoding or the message is missing."""
    asked: dict[str, bytes] = {}
    for name, value in pairs_in(request.query_string):
        if name in asked and name in _PARAMETERS:
            raise Refused(INVALID_ARGUMENT, f"the query has two values for {name}")
        asked[name] = value
    for name in ("encoding", "message"):
        if name not in asked:
            raise Refused(INVALID_ARGUMENT, f"the query has no {name}")
    if asked.get("connect", b"v1") != b"v1":
        raise Refused(INVALID_ARGUMENT, "the query's connect is not v1")
    if asked.get("base64", b"1") not in (b"0", b"1"):
        raise Refused(INVALID_ARGUMENT, "the query's base64 is neither 0 nor 1")
    return asked


def _streams(descriptor: Any) -> bool:
    return bool(descriptor.client_streaming or descriptor.server_streaming)


# -- requests --


def _decode_unary(request: HttpRequest, method: str, codec: Codec, max_message: int | None) -> IncomingCall:
    encoding = request.header("content-encoding") or IDENTITY
    compression.check(encoding)
    message = _plain(request.body, encoding, max_message)
    return _incoming(request, method, _decoded(codec, iter((message,))), "accept-encoding")


def _decode_get(
    request: HttpRequest,
    method: str,
    asked: dict[str, bytes],
    codec: Codec,
    max_message: int | None,
) -> IncomingCall:
    encoding = asked.get("compression", b"identity").decode("ascii", "replace")
    compression.check(encoding)
    body = asked["message"]
    if asked.get("base64") == b"1":
        body = _from_base64(body)
    message = _plain(body, encoding, max_message)
    return _incoming(request, method, _decoded(codec, iter((message,))), "accept-encoding")


def _decode_stream(request: HttpRequest, method: str, codec: Codec, max_message: int | None) -> IncomingCall:
    encoding = request.header("connect-content-encoding") or IDENTITY
    compression.check(encoding)
    messages = messages_in(request.body, encoding, max_message)
    return _incoming(request, method, _decoded(codec, messages), "connect-accept-encoding")


def _incoming(request: HttpRequest, method: str, messages: Iterator[bytes], accepts: str) -> IncomingCall:
    version = request.header("connect-protocol-version") or "1"
    if version != "1":
        raise Refused(INVALID_ARGUMENT, f"connect-protocol-version {version[:20]!r} is not 1")
    own = tuple(pair for pair in request.headers if not _is_connects(pair[0]))
    return IncomingCall(
        method=method,
        metadata=metadata.of_request(own),
        messages=messages,
        timeout=_timeout_of(request.header("connect-timeout-ms")),
        accepted=compression.accepted(request.header(accepts)),
        peer=request.peer,
    )


def _is_connects(name: str) -> bool:
    return name.startswith("connect-") or name == "content-encoding"


def _decoded(codec: Codec, messages: Iterator[bytes]) -> Iterator[bytes]:
    return map(codec.decode, messages)


def _plain(body: bytes, encoding: str, max_message: int | None) -> bytes:
    if encoding != IDENTITY and body:
        return compression.inflate(body, encoding, max_size=max_message)
    if max_message is not None and len(body) > max_message:
        raise Refused(RESOURCE_EXHAUSTED, f"message larger than max ({len(body)} vs. {max_message})")
    return body


def _from_base64(text: bytes) -> bytes:
    """In the URL-safe alphabet or the usual one; its padding is optional."""
    usual = text.rstrip(b"=").translate(_USUAL_ALPHABET)
    try:
        return b64decode(usual + b"=" * (-len(usual) % 4), validate=True)
    except (Base64Error, ValueError) as error:
        raise Refused(INVALID_ARGUMENT, "the query's message is not base64") from error


def _timeout_of(value: str | None) -> float | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= _TIMEOUT_DIGITS):
        raise Refused(INVALID_ARGUMENT, "connect-timeout-ms is a number of up to ten digits")
    return int(value) / 1000


# -- replies --


def _error(status: Status, trailing: Metadata) -> dict[str, Any]:
    error: dict[str, Any] = {"code": CODE_NAMES[status.code]}
    if status.message:
        error["message"] = status.message
    details = [
        {
            "type": detail.type_url.rpartition("/")[2],
            "value": b64encode(detail.value).rstrip(b"=").decode("ascii"),
        }
        for detail in details_in(trailing)
    ]
    return error | ({"details": details} if details else {})


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


class UnaryResponder:
    """The reply to one unary call: its message is the body, or its error."""

    can_stream = False
    needs_message = False

    def __init__(self, format_: str, codec: Codec, *, is_known: bool = True) -> None:
        """`is_known`: whether the service is registered."""
        self._format = format_
        self._codec = codec
        self._is_known = is_known
        self._encoding = IDENTITY
        """Of the message: HTTP names it only if it is compressed."""

    def message(self, data: bytes, encoding: str) -> bytes:
        plain = self._codec.encode(data)
        packed = compression.deflate(plain, encoding)
        self._encoding = IDENTITY if packed is None else encoding
        return plain if packed is None else packed

    def head(self, initial: Metadata, encoding: str) -> HttpReply:  # noqa: ARG002 - see message
        named = (("content-encoding", self._encoding),) if self._encoding != IDENTITY else ()
        content_type = ("content-type", f"application/{self._format}")
        return HttpReply(200, (content_type, *named, *metadata.to_headers(initial)))

    def end(self, status: Status, trailing: Metadata) -> bytes:  # noqa: ARG002 - nothing follows a unary body
        return b""

    def whole(self, reply: WholeReply) -> HttpReply:
        trailers = _prefixed(reply.trailing)
        if reply.is_unknown and not self._is_known:
            return self._failed(reply, trailers)._replace(status=404)
        if reply.status.code != OK:
            return self._failed(reply, trailers)
        if len(reply.messages) != 1:
            status = Status(UNIMPLEMENTED, f"{len(reply.messages)} messages; a unary call has one")
            return self._failed(reply._replace(status=status), trailers)
        head = self.head(reply.initial or (), reply.compression)
        is_text = self._format == "json" and self._encoding == IDENTITY
        return HttpReply(200, (*head.headers, *trailers), reply.messages[0], is_text=is_text)

    @staticmethod
    def _failed(reply: WholeReply, trailers: Headers) -> HttpReply:
        initial = metadata.to_headers(reply.initial or ())
        return HttpReply(
            HTTP_STATUS[reply.status.code],
            (("content-type", "application/json"), *initial, *trailers),
            _json(_error(reply.status, reply.trailing)),
            is_text=True,
        )


def _prefixed(trailing: Metadata) -> Headers:
    headers = metadata.to_headers(without_details(trailing))
    return tuple((f"trailer-{name}", value) for name, value in headers)


class StreamResponder(NamedTuple):
    """The reply to one streaming call: always 200; the last envelope has error and trailing metadata."""

    format_: str
    codec: Codec
    is_known: bool
    """Whether the service is registered."""

    @property
    def can_stream(self) -> bool:
        return True

    @property
    def needs_message(self) -> bool:
        return False

    def message(self, data: bytes, encoding: str) -> bytes:
        plain = self.codec.encode(data)
        packed = compression.deflate(plain, encoding)
        return frame(0, plain) if packed is None else frame(_COMPRESSED, packed)

    def head(self, initial: Metadata, encoding: str) -> HttpReply:
        named = (("connect-content-encoding", encoding),) if encoding != IDENTITY else ()
        content_type = ("content-type", _STREAMS + self.format_)
        return HttpReply(200, (content_type, *named, *metadata.to_headers(initial)))

    def end(self, status: Status, trailing: Metadata) -> bytes:
        last: dict[str, Any] = {}
        if status.code != OK:
            last["error"] = _error(status, trailing)
        found: dict[str, list[str]] = {}
        for name, value in metadata.to_headers(without_details(trailing)):
            found.setdefault(name, []).append(value)
        if found:
            last["metadata"] = found
        return frame(_END, _json(last))

    def whole(self, reply: WholeReply) -> HttpReply:
        if reply.is_unknown and not self.is_known:
            return plain_reply(404, "the function does not serve this service")
        head = self.head(reply.initial or (), reply.compression)
        body = b"".join((*reply.messages, self.end(reply.status, reply.trailing)))
        return HttpReply(head.status, head.headers, body)
