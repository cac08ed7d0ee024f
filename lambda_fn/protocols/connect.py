"""Connect (connectrpc.com/docs/protocol): unary calls as plain HTTP with an HTTP status, streams in envelopes whose last one tells the end.

Both in protobuf and JSON; unary methods that say `idempotency_level = NO_SIDE_EFFECTS` by GET too.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from lambda_fn import compression, metadata, transcode
from lambda_fn.http import Headers, HttpReply, HttpRequest, plain_reply
from lambda_fn.protocols.grpc_web import frame, messages_in
from lambda_fn.protocols.http_status import HTTP_STATUS, details_in, without_details
from lambda_fn.protocols.protocol import Accepted, Exchange, method_of
from lambda_fn.rpc import (
    IDENTITY,
    INVALID_ARGUMENT,
    OK,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    IncomingCall,
    Metadata,
    Refused,
    Status,
    WholeReply,
)
from lambda_fn.transcode import Codec

_STREAMS = "application/connect+"
_COMPRESSED, _END = 0x01, 0x02
_NO_SIDE_EFFECTS = 1
"""MethodOptions.IdempotencyLevel in google/protobuf/descriptor.proto."""

_TIMEOUT_DIGITS = 10
_USUAL_ALPHABET = str.maketrans("-_", "+/")

_NAMES = (
    "", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
    "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable", "data_loss",
    "unauthenticated",
)  # fmt: skip
"""Connect's spelling of the codes, by their number."""


def accept(request: HttpRequest, services: Callable[[], list[str]]) -> Accepted:
    """Connect's own content types, and JSON or a GET where the path names a registered service."""
    content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    method = method_of(request.path)
    asked = dict(request.query)
    if request.method == "GET" and "encoding" in asked and "message" in asked:
        return _accept_get(request, method, asked) if _is_known(method, services) else None
    if content_type.startswith(_STREAMS):
        format_, answer = content_type.removeprefix(_STREAMS), _accept_stream
    elif content_type == "application/proto" or (
        content_type == "application/json" and _is_known(method, services)
    ):
        format_, answer = content_type.removeprefix("application/"), _accept_unary
    else:
        return None
    if request.method != "POST":
        return plain_reply(405, "a Connect call is a POST", headers=(("allow", "POST"),))
    if format_ not in ("proto", "json"):
        return plain_reply(415, "Connect's messages are proto or json here")
    return answer(request, method, format_)


def _is_known(method: str, services: Callable[[], list[str]]) -> bool:
    return method[1:].partition("/")[0] in services()


def _codec(format_: str, descriptor: Any) -> Codec:
    if format_ == "json":
        return transcode.json_codec(descriptor, prints_defaults=False)
    return transcode.PROTO


def _accept_unary(request: HttpRequest, method: str, format_: str) -> Accepted:
    descriptor = transcode.find_method(method)
    if descriptor is not None and _streams(descriptor):
        return plain_reply(415, f"{method} streams: its content type is {_STREAMS}{format_}")
    codec = _codec(format_, descriptor)
    return Exchange(UnaryResponder(format_, codec), partial(_decode_unary, request, method, codec))


def _accept_stream(request: HttpRequest, method: str, format_: str) -> Accepted:
    descriptor = transcode.find_method(method)
    if descriptor is not None and not _streams(descriptor):
        return plain_reply(415, f"{method} is unary: its content type is application/{format_}")
    codec = _codec(format_, descriptor)
    return Exchange(
        StreamResponder(format_, codec), partial(_decode_stream, request, method, codec)
    )


def _accept_get(request: HttpRequest, method: str, asked: dict[str, str]) -> Accepted:
    descriptor = transcode.find_method(method)
    if descriptor is None or descriptor.GetOptions().idempotency_level != _NO_SIDE_EFFECTS:
        return plain_reply(405, f"{method} is called by POST", headers=(("allow", "POST"),))
    if (format_ := asked["encoding"]) not in ("proto", "json"):
        return plain_reply(415, "Connect's messages are proto or json here")
    codec = _codec(format_, descriptor)
    return Exchange(
        UnaryResponder(format_, codec), partial(_decode_get, request, method, asked, codec)
    )


def _streams(descriptor: Any) -> bool:
    return bool(descriptor.client_streaming or descriptor.server_streaming)


# -- requests --


def _decode_unary(
    request: HttpRequest, method: str, codec: Codec, max_message: int | None
) -> IncomingCall:
    encoding = request.header("content-encoding") or IDENTITY
    compression.check(encoding)
    message = _plain(request.body, encoding, max_message)
    return _incoming(request, method, _decoded(codec, iter((message,))), "accept-encoding")


def _decode_get(
    request: HttpRequest, method: str, asked: dict[str, str], codec: Codec, max_message: int | None
) -> IncomingCall:
    encoding = asked.get("compression", IDENTITY)
    compression.check(encoding)
    text = asked["message"]
    body = _from_base64(text) if asked.get("base64") == "1" else text.encode()
    message = _plain(body, encoding, max_message)
    return _incoming(request, method, _decoded(codec, iter((message,))), "accept-encoding")


def _decode_stream(
    request: HttpRequest, method: str, codec: Codec, max_message: int | None
) -> IncomingCall:
    encoding = request.header("connect-content-encoding") or IDENTITY
    compression.check(encoding)
    messages = messages_in(request.body, encoding, max_message)
    return _incoming(request, method, _decoded(codec, messages), "connect-accept-encoding")


def _incoming(
    request: HttpRequest, method: str, messages: Iterator[bytes], accepts: str
) -> IncomingCall:
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
        raise Refused(
            RESOURCE_EXHAUSTED, f"message larger than max ({len(body)} vs. {max_message})"
        )
    return body


def _from_base64(text: str) -> bytes:
    """In the URL-safe alphabet or the usual one; its padding is optional."""
    usual = text.rstrip("=").translate(_USUAL_ALPHABET)
    try:
        return b64decode(usual + "=" * (-len(usual) % 4))
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
    error: dict[str, Any] = {"code": _NAMES[status.code]}
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

    def __init__(self, format_: str, codec: Codec) -> None:
        self._format = format_
        self._codec = codec
        self._encoding = IDENTITY
        """Of the message: HTTP names it only if it is compressed."""

    def message(self, data: bytes, encoding: str) -> bytes:
        plain = self._codec.encode(data)
        packed = compression.deflate(plain, encoding)
        self._encoding = IDENTITY if packed is None else encoding
        return plain if packed is None else packed

    def head(self, initial: Metadata, encoding: str) -> HttpReply:  # noqa: ARG002  (see message)
        named = (("content-encoding", self._encoding),) if self._encoding != IDENTITY else ()
        content_type = ("content-type", f"application/{self._format}")
        return HttpReply(200, (content_type, *named, *metadata.to_headers(initial)))

    def end(self, status: Status, trailing: Metadata) -> bytes:  # noqa: ARG002  (nothing follows a unary body)
        return b""

    def whole(self, reply: WholeReply) -> HttpReply:
        trailers = _prefixed(reply.trailing)
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

    @property
    def can_stream(self) -> bool:
        return True

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
        head = self.head(reply.initial or (), reply.compression)
        body = b"".join((*reply.messages, self.end(reply.status, reply.trailing)))
        return HttpReply(head.status, head.headers, body)
