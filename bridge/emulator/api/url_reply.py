"""What a function URL makes of a function's reply: a status, headers and a body, by AWS's rules of inference.

A payload comes in, whole (`infer`) or as it comes (`Prelude`); an HTTP head and body go out, or a BadReply that says
why AWS would answer 502. Knows nothing of sockets.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import DecodeError, Struct, ValidationError

from bridge.aws.events.base64_body import decode_base64
from bridge.aws.events.prelude import MAX_PRELUDE, SEPARATOR, find_end_of_prelude
from bridge.rpc.json_text import without_mark
from bridge.rpc.value import FrozenValue

REMAPPED = frozenset(
    (
        "authorization",
        "connection",
        "content-length",
        "content-md5",
        "date",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "www-authenticate",
        "x-amzn-requestid",
        "x-amzn-trace-id",
    )
)
"""Headers that a URL sets itself or keeps for itself: a function's own go out under x-amzn-Remapped-NAME."""

_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch  # RFC 9110 5.6.2: token
_forbidden = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class InvalidUrlReply(Exception):
    """The reply cannot become an HTTP response. `str` says why, for the function's log alone."""


class Head(FrozenValue, frozen=True):
    """How an HTTP response begins."""

    http_status: int
    headers: tuple[tuple[str, str], ...]


class UrlReply(FrozenValue, frozen=True):
    """The HTTP response that a function's whole reply becomes at its URL."""

    head: Head
    body: bytes


_Scalar = str | int | float | bool | None


class _Object(Struct, gc=False):
    """The reply's object form. Other members do not count."""

    statusCode: int | str = 200  # noqa: N815 - the wire's name
    headers: dict[str, _Scalar | list[_Scalar]] | None = None
    cookies: list[str] | None = None
    body: str | None = None
    isBase64Encoded: bool | None = None  # noqa: N815


def infer(payload: bytes) -> UrlReply:
    """Return the response to a whole reply: an object with statusCode says it all, any other JSON is the body. Raises
    BadReply.
    """
    try:
        value = msgspec.json.decode(without_mark(payload))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidUrlReply("the reply is no JSON") from None
    if not isinstance(value, dict) or "statusCode" not in value:
        return UrlReply(Head(200, (("content-type", "application/json"),)), payload)
    found = _object(value)
    return UrlReply(_head(found, content_type="application/json"), _body(found))


def plain_head(content_type: str) -> Head:
    """Return the head of a streamed reply that brings none."""
    return Head(200, (("content-type", content_type),))


class Prelude:
    """Finds the head at the start of a streamed reply: JSON, then eight NUL bytes. Chunks may be cut anywhere."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, chunk: bytes) -> tuple[Head, bytes] | None:
        """Return the head and what of the body has come, or None if more must come first. Raises BadReply."""
        self._held += chunk
        end = find_end_of_prelude(self._held)
        if end < 0:
            if len(self._held) >= MAX_PRELUDE:
                raise InvalidUrlReply(f"no end of the prelude within {MAX_PRELUDE} bytes")
            return None
        after = end + len(SEPARATOR)
        if len(self._held) < after:
            return None
        if self._held[end:after] != SEPARATOR:
            raise InvalidUrlReply("the prelude does not end with eight NUL bytes")
        return _read_head(bytes(self._held[:end])), bytes(self._held[after:])


def _read_head(text: bytes) -> Head:
    try:
        value = msgspec.json.decode(without_mark(text))
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidUrlReply("the prelude is no JSON") from None
    return _head(_object(value), content_type="application/octet-stream")


def _object(value: Any) -> _Object:
    try:
        return msgspec.convert(value, _Object)
    except ValidationError as error:
        raise InvalidUrlReply(f"the reply's object is malformed: {error}") from None


def _head(found: _Object, *, content_type: str) -> Head:
    fields: list[tuple[str, str]] = []
    for sent_name, sent in (found.headers or {}).items():
        name = sent_name.lower()
        name = f"x-amzn-Remapped-{name}" if name in REMAPPED else name
        values = sent if isinstance(sent, list) else [sent]
        fields += [(name, _text(value)) for value in values if value is not None]
    fields += [("set-cookie", cookie) for cookie in found.cookies or ()]
    for name, value in fields:
        if not _name(name) or _forbidden(value):
            raise InvalidUrlReply(f"HTTP has no such header: {name[:80]!r}")
    if all(name != "content-type" for name, _ in fields):
        fields.append(("content-type", content_type))
    return Head(_http_status(found.statusCode), tuple(fields))


def _text(value: _Scalar) -> str:
    return value if isinstance(value, str) else str(value).lower()  # true, not True


def _http_status(value: int | str) -> int:
    # 1xx is no final status.
    if not re.fullmatch(r"[2-5]\d\d", str(value)):
        raise InvalidUrlReply("the statusCode is invalid: it must be a number from 100 to 599")
    return int(value)


def _body(found: _Object) -> bytes:
    if not found.body:
        return b""
    if not found.isBase64Encoded:
        return found.body.encode()
    try:
        return decode_base64(found.body)
    except ValueError:
        raise InvalidUrlReply("isBase64Encoded is true, and the body is no base64") from None
