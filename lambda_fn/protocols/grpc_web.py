"""gRPC-Web (grpc doc/PROTOCOL-WEB.md): the body is the messages with their prefixes, then one frame with the trailers.

Binary or base64 text. The reply is trailers-only, its status in the HTTP headers, if a call fails before it sent
anything.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lambda_fn import compression, metadata
from lambda_fn.http import Headers, HttpReply, HttpRequest, plain_reply
from lambda_fn.protocols.protocol import Accepted, Exchange, method_of
from lambda_fn.rpc import IDENTITY, IncomingCall, WholeReply
from lambda_fn.status import INTERNAL, OK, RESOURCE_EXHAUSTED, Metadata, Refused, Status

if TYPE_CHECKING:
    from lambda_fn.transcode import Codec

_BINARY = "application/grpc-web"
_TEXT = "application/grpc-web-text"
_PREFIX_SIZE = 5
_COMPRESSED = 0x01
_TRAILERS = 0x80

_content_type = re.compile(r"\s*(application/grpc-web(?:-text)?)(\+[\w.-]+)?\s*(?:;.*)?", re.IGNORECASE).fullmatch

# PROTOCOL-HTTP2, "Percent-Encoded": 0x20-0x24 and 0x26-0x7E stand for themselves. Spaces at the ends don't: HTTP takes
# them off.
_encodable = re.compile(rb"[^\x20-\x24\x26-\x7e]|\A +|(?<! ) +\Z")

_SECONDS_IN = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST_TIMEOUT = 10.0 * 365 * 24 * 3600
"""Seconds; timers overflow with the longest that could be written."""
_timeout = re.compile(r"([0-9]{1,8})([HMSmun])").fullmatch

# PROTOCOL-WEB, "base64 encoded": padding may stand in the middle of a stream, where an encoder flushed.
_padded_parts = re.compile(rb"[^=]+=*").findall


def accept(request: HttpRequest) -> Accepted:
    """Any request with gRPC-Web's content type."""
    found = _content_type(request.header("content-type") or "")
    if found is None:
        return None
    if request.method != "POST":
        return plain_reply(405, "a gRPC call is a POST", headers=(("allow", "POST"),))
    sent, suffix = found[1].lower(), found[2] or "+proto"
    wanted = request.header("accept") or ""
    preferred = _TEXT if _TEXT in wanted else _BINARY
    family = preferred if _BINARY in wanted else sent
    codec = _json_codec(request) if suffix.lower() == "+json" else None
    return Exchange(
        GrpcWebResponder(family + suffix, is_text=family == _TEXT, codec=codec),
        partial(_decode_text_call if sent == _TEXT else _decode, request, codec),
    )


def _json_codec(request: HttpRequest) -> Codec | None:
    """None for a method without a descriptor: what its servicer makes of JSON is its own affair."""
    from lambda_fn import transcode

    descriptor = transcode.find_method(method_of(request.path))
    return descriptor and transcode.json_codec(descriptor, prints_defaults=False)


def _decode_text_call(request: HttpRequest, codec: Codec | None, max_message: int | None) -> IncomingCall:
    return _decode(request._replace(body=decode_text(request.body)), codec, max_message)


def _decode(request: HttpRequest, codec: Codec | None, max_message: int | None) -> IncomingCall:
    encoding = request.header("grpc-encoding") or IDENTITY
    compression.check(encoding)
    messages = messages_in(request.body, encoding, max_message)
    return IncomingCall(
        method=method_of(request.path),
        metadata=metadata.of_request(request.headers),
        messages=messages if codec is None else map(codec.decode, messages),
        timeout=parse_timeout(request.header("grpc-timeout")),
        accepted=compression.accepted(request.header("grpc-accept-encoding")),
        peer=request.peer,
    )


def parse_timeout(value: str | None) -> float | None:
    """Return the seconds of a `grpc-timeout` (PROTOCOL-HTTP2, "Timeout"). As grpcio's server does, one that does not
    parse counts as none.
    """
    found = _timeout(value or "")
    return min(int(found[1]) * _SECONDS_IN[found[2]], _LONGEST_TIMEOUT) if found else None


def decode_text(body: bytes) -> bytes:
    """Return the bytes of a body in base64. Raises Refused."""
    try:
        return b"".join([b64decode(part, validate=True) for part in _padded_parts(body)])
    except Base64Error as error:
        raise Refused(INTERNAL, "the body is not base64, as grpc-web-text asks") from error


def cut(body: bytes, max_message: int | None) -> list[tuple[int, int, int]]:
    """Where the messages lie: flags, start and end of each. Looks at the prefixes only. Raises Refused."""
    found = []
    at, size = 0, len(body)
    while at < size:
        start = at + _PREFIX_SIZE
        if start > size:
            raise Refused(INTERNAL, "the request ends in the middle of a message")
        flags, length = body[at], int.from_bytes(body[at + 1 : start], "big")
        if flags not in (0, _COMPRESSED):
            raise Refused(INTERNAL, f"a request message begins with flag byte 0x{flags:02x}")
        if max_message is not None and length > max_message:
            raise Refused(
                RESOURCE_EXHAUSTED,
                f"SERVER: Received message larger than max ({length} vs. {max_message})",
            )
        at = start + length
        if at > size:
            raise Refused(INTERNAL, "the request ends in the middle of a message")
        found.append((flags, start, at))
    return found


def messages_in(body: bytes, encoding: str, max_message: int | None) -> Iterator[bytes]:
    """Yield the messages behind their prefixes, each inflated when it is taken. Raises Refused."""
    return _inflated(body, cut(body, max_message), encoding, max_message)


def _inflated(
    body: bytes, places: list[tuple[int, int, int]], encoding: str, max_message: int | None
) -> Iterator[bytes]:
    for flags, start, end in places:
        data = body[start:end]
        yield compression.inflate(data, encoding, max_size=max_message) if flags else data


def frame(flags: int, data: bytes) -> bytes:
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def _status_headers(status: Status, trailing: Metadata) -> Headers:
    text = status.message.encode("utf-8", "replace")
    message = _encodable.sub(_percent_encoded, text).decode("ascii")
    return (
        ("grpc-status", str(status.code)),
        *((("grpc-message", message),) if message else ()),
        *metadata.to_headers(trailing),
    )


def _percent_encoded(found: re.Match[bytes]) -> bytes:
    return b"".join([b"%%%02X" % byte for byte in found[0]])


class GrpcWebResponder(NamedTuple):
    """The reply side, for one call."""

    content_type: str
    is_text: bool
    codec: Codec | None = None
    """Between protobuf and what the caller reads, if that is not protobuf."""

    @property
    def can_stream(self) -> bool:
        return True

    @property
    def needs_message(self) -> bool:
        return False

    def message(self, data: bytes, encoding: str) -> bytes:
        if self.codec is not None:
            data = self.codec.encode(data)
        packed = compression.deflate(data, encoding)
        return self._travelling(frame(0, data) if packed is None else frame(_COMPRESSED, packed))

    def head(self, initial: Metadata, encoding: str) -> HttpReply:
        named = (("grpc-encoding", encoding),) if encoding != IDENTITY else ()
        headers = (("content-type", self.content_type), *named, *metadata.to_headers(initial))
        return HttpReply(200, headers, is_text=self.is_text)

    def end(self, status: Status, trailing: Metadata) -> bytes:
        lines = [f"{name}:{value}\r\n" for name, value in _status_headers(status, trailing)]
        return self._travelling(frame(_TRAILERS, "".join(lines).encode("ascii")))

    def whole(self, reply: WholeReply) -> HttpReply:
        if reply.initial is None and reply.status.code != OK:
            trailers_only = _status_headers(reply.status, reply.trailing)
            return HttpReply(200, (("content-type", self.content_type), *trailers_only))
        head = self.head(reply.initial or (), reply.compression)
        body = b"".join((*reply.messages, self.end(reply.status, reply.trailing)))
        return HttpReply(head.status, head.headers, body, is_text=self.is_text)

    def _travelling(self, frame: bytes) -> bytes:
        return b64encode(frame) if self.is_text else frame
