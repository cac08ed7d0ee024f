"""gRPC-Web (grpc doc/PROTOCOL-WEB.md): the body is the messages with their prefixes, then one frame with the trailers.

Binary or base64 text. The reply is trailers-only, its status in the HTTP headers, if a call fails before it sent anything.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from typing import NamedTuple

from lambda_fn import compression, metadata
from lambda_fn.http import Headers, HttpReply, HttpRequest
from lambda_fn.protocols.protocol import Protocol
from lambda_fn.rpc import (
    IDENTITY,
    INTERNAL,
    OK,
    RESOURCE_EXHAUSTED,
    IncomingCall,
    Metadata,
    Refused,
    Status,
    WholeReply,
)

_BINARY = "application/grpc-web"
_TEXT = "application/grpc-web-text"
_PREFIX_SIZE = 5
_COMPRESSED = 0x01
_TRAILERS = 0x80

_content_type = re.compile(
    r"\s*(application/grpc-web(?:-text)?)(\+[\w.-]+)?\s*(?:;.*)?", re.IGNORECASE
).fullmatch

# PROTOCOL-HTTP2, "Percent-Encoded": 0x20-0x24 and 0x26-0x7E stand for themselves.
_encodable = re.compile(rb"[^\x20-\x24\x26-\x7e]")

_SECONDS_IN = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST_TIMEOUT = 10.0 * 365 * 24 * 3600
"""Seconds; timers overflow with the longest that could be written."""
_timeout = re.compile(r"([0-9]{1,8})([HMSmun])").fullmatch

# PROTOCOL-WEB, "base64 encoded": padding may stand in the middle of a stream, where an encoder flushed.
_padded_parts = re.compile(rb"[^=]+=*").findall


def matches(request: HttpRequest) -> bool:
    return _content_type(request.header("content-type") or "") is not None


def responder(request: HttpRequest) -> GrpcWebResponder:
    found = _content_type(request.header("content-type") or "")
    family, suffix = (found[1].lower(), found[2] or "+proto") if found else (_BINARY, "+proto")
    accept = request.header("accept") or ""
    if _BINARY in accept:
        family = _TEXT if _TEXT in accept else _BINARY
    return GrpcWebResponder(family + suffix, is_text=family == _TEXT)


def decode(request: HttpRequest, max_message: int | None) -> IncomingCall:
    """Raises Refused."""
    encoding = request.header("grpc-encoding") or IDENTITY
    compression.check(encoding)
    is_text = (request.header("content-type") or "").lstrip().lower().startswith(_TEXT)
    body = _decode_text(request.body) if is_text else request.body
    return IncomingCall(
        method=_method_of(request.path),
        metadata=metadata.of_request(request.headers),
        messages=_messages(body, cut(body, max_message), encoding, max_message),
        timeout=parse_timeout(request.header("grpc-timeout")),
        accepted=compression.accepted(request.header("grpc-accept-encoding")),
        peer=request.peer,
    )


PROTOCOL = Protocol(f"{_BINARY}+proto", matches, responder, decode)


def _method_of(path: str) -> str:
    """The last two segments: a stage or a base path of API Gateway may stand before them."""
    return "/" + "/".join(path.split("/")[-2:])


def parse_timeout(value: str | None) -> float | None:
    """The seconds of a `grpc-timeout` (PROTOCOL-HTTP2, "Timeout"). As grpcio's server does, one that does not parse counts as none."""
    found = _timeout(value or "")
    return min(int(found[1]) * _SECONDS_IN[found[2]], _LONGEST_TIMEOUT) if found else None


def _decode_text(body: bytes) -> bytes:
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


def _messages(
    body: bytes, places: list[tuple[int, int, int]], encoding: str, max_message: int | None
) -> Iterator[bytes]:
    for flags, start, end in places:
        data = body[start:end]
        yield compression.inflate(data, encoding, max_size=max_message) if flags else data


def _frame(flags: int, data: bytes) -> bytes:
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def _status_headers(status: Status, trailing: Metadata) -> Headers:
    text = status.message.encode("utf-8", "replace")
    message = _encodable.sub(lambda found: b"%%%02X" % ord(found[0]), text).decode("ascii")
    return (
        ("grpc-status", str(status.code)),
        *((("grpc-message", message),) if message else ()),
        *metadata.to_headers(trailing),
    )


class GrpcWebResponder(NamedTuple):
    """The reply side, for one call."""

    content_type: str
    is_text: bool

    def message(self, data: bytes, encoding: str) -> bytes:
        packed = compression.deflate(data, encoding)
        return self._travelling(_frame(0, data) if packed is None else _frame(_COMPRESSED, packed))

    def head(self, initial: Metadata, encoding: str) -> HttpReply:
        named = (("grpc-encoding", encoding),) if encoding != IDENTITY else ()
        headers = (("content-type", self.content_type), *named, *metadata.to_headers(initial))
        return HttpReply(200, headers, is_text=self.is_text)

    def end(self, status: Status, trailing: Metadata) -> bytes:
        lines = [f"{name}:{value}\r\n" for name, value in _status_headers(status, trailing)]
        return self._travelling(_frame(_TRAILERS, "".join(lines).encode("ascii")))

    def whole(self, reply: WholeReply) -> HttpReply:
        if reply.initial is None and reply.status.code != OK:
            trailers_only = _status_headers(reply.status, reply.trailing)
            return HttpReply(200, (("content-type", self.content_type), *trailers_only))
        head = self.head(reply.initial or (), reply.compression)
        body = b"".join((*reply.messages, self.end(reply.status, reply.trailing)))
        return HttpReply(head.status, head.headers, body, is_text=self.is_text)

    def _travelling(self, frame: bytes) -> bytes:
        return b64encode(frame) if self.is_text else frame
