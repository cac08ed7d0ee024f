"""What a function that serves HTTP returns, in every form, as a status, headers and a body.

In goes the payload that Invoke brought back: the JSON object `{statusCode, headers, body, isBase64Encoded}` of
gateways, or the prelude form of streaming functions (JSON, eight NULs, the raw body). Knows nothing of what the body
means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

from bridge.aws.events.base64_body import decode_base64
from bridge.aws.events.prelude import SEPARATOR, find_end_of_prelude
from bridge.rpc.errors import BadReply
from bridge.rpc.json_text import BYTE_ORDER_MARK, without_mark
from bridge.rpc.metadata import Metadata
from bridge.rpc.value import FrozenValue

MOST_HEADERS = 1000
"""Headers of a reply. AWS's front doors take fewer; the 6 MB of a reply have room for half a million, which would stop
other calls.
"""

_EXPECTED = "expected an object with statusCode, headers, body and isBase64Encoded"


class HttpReply(FrozenValue, frozen=True):
    """An HTTP response, however it travelled."""

    http_status: int
    headers: Metadata
    """Names in lower case; values as HTTP carries them: bytes beyond ASCII as Latin-1."""
    body: bytes


_Scalar = str | int | float | bool | None
FieldValues = dict[str, _Scalar | list[_Scalar]]


class ReplyObject(Struct, gc=False):
    """The reply as JSON has it."""

    statusCode: int | str | None = None  # noqa: N815 - the wire's name
    headers: FieldValues | None = None
    multiValueHeaders: FieldValues | None = None  # noqa: N815
    cookies: list[str] | None = None
    body: str | None = None
    isBase64Encoded: bool | None = None  # noqa: N815


_decode = Decoder(ReplyObject).decode


def decode_reply(payload: bytes) -> HttpReply:
    """Return the reply in this payload. Raises BadReply."""
    return reply_of(payload, _decode, expected=_EXPECTED)


def reply_of(payload: bytes, decode: Callable[[bytes], ReplyObject], *, expected: str) -> HttpReply:
    """Return the reply in this payload, its JSON read by `decode`. `expected` says what that is. Raises BadReply."""
    try:
        found = decode(payload)
    except _UNREADABLE as error:
        text = without_mark(payload)
        if len(text) < len(payload) and not text.startswith(BYTE_ORDER_MARK):
            return reply_of(text, decode, expected=expected)
        nul = find_end_of_prelude(payload)
        if nul < 0:
            raise _no_reply(payload, error, expected) from error
        return _reply_behind_prelude(payload, nul, decode, expected)
    if found.statusCode is None and found.headers is None and found.body is None:
        raise BadReply(f"the function returned JSON that is no HTTP reply: {expected}")
    return HttpReply(_http_status(found.statusCode), _headers_of(found), _body_of(found))


def _reply_behind_prelude(payload: bytes, nul: int, decode: Callable[[bytes], ReplyObject], expected: str) -> HttpReply:
    """`nul`: where the prelude ends."""
    end = nul + len(SEPARATOR)
    if payload[nul:end] != SEPARATOR:
        raise BadReply(f"the function returned neither JSON nor a prelude and a body: {expected}")
    try:
        found = decode(payload[:nul])
    except _UNREADABLE as error:
        raise _no_reply(payload[:nul], error, expected) from error
    return HttpReply(_http_status(found.statusCode), _headers_of(found), payload[end:])


# What a JSON text is, by its first character.
_KINDS = {
    b"[": "a list",
    b'"': "a string",
    b"n": "null",
    b"t": "true",
    b"f": "false",
    b"": "nothing",
    **{b"%c" % digit: "a number" for digit in b"-0123456789"},
}


_UNREADABLE = (DecodeError, UnicodeDecodeError, RecursionError)


def _no_reply(text: bytes, error: Exception, expected: str) -> BadReply:
    """Return what to say of a text that `decode` does not read."""
    if isinstance(error, ValidationError):
        kind = _KINDS.get(text.lstrip()[:1], "an object with a field of the wrong type")
    else:
        kind = "no JSON" if text else "nothing"
    return BadReply(f"the function returned {kind}: {expected}")


def _http_status(value: int | str | None) -> int:
    if value is None or value == 200:
        return 200  # without one: as function URLs assume
    try:
        http_status = int(value)
    except ValueError:
        http_status = 0
    if not 100 <= http_status <= 599:
        raise BadReply("the function returned an invalid statusCode: it must be a number from 100 to 599")
    return http_status


def _headers_of(found: ReplyObject) -> Metadata:
    """Return the headers in order. A name in multiValueHeaders counts only there. Cookies are a field of their own."""
    fields = _flatten(found.headers) if found.headers else []
    if found.multiValueHeaders:
        listed = _flatten(found.multiValueHeaders)
        names = {name for name, _ in listed}
        fields = listed + [field for field in fields if field[0] not in names]
    if found.cookies:
        fields += [("set-cookie", _as_sent(cookie)) for cookie in found.cookies]
    return tuple(fields)


def _flatten(headers: Mapping[str, _Scalar | list[_Scalar]]) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    if len(headers) > MOST_HEADERS:
        raise _too_many_headers()
    for sent_name, value in headers.items():
        name = sent_name.lower()
        if isinstance(value, str):
            fields.append((name, value if value.isascii() else _as_sent(value)))
        elif isinstance(value, list):
            if len(fields) + len(value) > MOST_HEADERS:
                raise _too_many_headers()
            fields += [(name, _text_of(part)) for part in value if part is not None]
        elif value is not None:
            fields.append((name, _text_of(value)))
    return fields


def _too_many_headers() -> BadReply:
    return BadReply(f"the function returned more than {MOST_HEADERS} headers")


def _text_of(value: _Scalar) -> str:
    if isinstance(value, str):
        return _as_sent(value)
    return str(value).lower()  # true, not True


def _as_sent(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8").decode("latin-1")


def _body_of(found: ReplyObject) -> bytes:
    body = found.body
    if not body:
        return b""
    if not found.isBase64Encoded:
        return _unmarked_body(found, body)
    try:
        return decode_base64(body)
    except ValueError as error:
        raise BadReply("the function returned a body marked isBase64Encoded that is not base64") from error


def _unmarked_body(found: ReplyObject, body: str) -> bytes:
    """Return the body of a reply without isBase64Encoded. It is text, with one exception: it is base64 if it begins
    with a letter or a digit, because no gRPC frame does.
    """
    if found.isBase64Encoded is None and body[0] in _BASE64_BEGINS and _is_framed(found):
        try:
            return decode_base64(body)
        except ValueError:
            pass  # the codec says what is wrong with it
    return body.encode("utf-8")


_BASE64_BEGINS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_FRAMED = re.compile(r"application/grpc(?!-web-text)").match


def _is_framed(found: ReplyObject) -> bool:
    """Whether the reply says that its body consists of gRPC frames, as bytes."""
    types = [value for name, value in _headers_of(found) if name == "content-type"]
    return bool(types) and _FRAMED(types[0].strip().lower()) is not None
