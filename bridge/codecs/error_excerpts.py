"""Texts that stand where a reply's messages belong: what a backend's error page says, what a runtime says of a failed
stream.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from bridge.rpc.errors import HttpRefusal
from bridge.rpc.json_text import without_mark
from bridge.rpc.status import code_of_http_status

MAX_EXCERPT = 200
"""Characters of a body that is not gRPC in a message."""

OPAQUE_KEPT = 4 * MAX_EXCERPT
"""Bytes kept of a body that cannot be read, to quote from."""

ERROR_MARK = b"Lambda-Runtime-Function-Error-Type:"
"""Runtimes report a failed response stream in HTTP trailers; over Invoke these end up as text behind the body."""

_ERROR_TEXT = re.compile(
    ERROR_MARK + rb"[ \t]*(?P<type>[^\r\n]*)"
    rb"(?:\r?\nLambda-Runtime-Function-Error-Body:[ \t]*(?P<body>[A-Za-z0-9+/=]*))?"
)


class _ErrorBody(Struct, gc=False):
    errorMessage: str = ""  # noqa: N815 - the wire's name


_decode_error_body = Decoder(_ErrorBody).decode


def broken_off(body: bytes | bytearray) -> str | None:
    """Return what the runtime's report in this body says, or None without one."""
    found = _ERROR_TEXT.search(body)
    if found is None:
        return None
    told = ["the function failed while it answered"]
    try:
        report = without_mark(a2b_base64(found["body"] or b""))
        message = _decode_error_body(report).errorMessage
    except (Base64Error, DecodeError, UnicodeDecodeError, RecursionError):
        message = ""
    told += [text for text in (excerpt(found["type"]), excerpt(message.encode())) if text]
    return ": ".join(told)


def http_refusal(http_status: int, body: bytes | bytearray = b"") -> HttpRefusal:
    """Return an HTTP error without a grpc-status, quoted from its body if that is text."""
    quoted = excerpt(body)
    told = f"the function answered HTTP {http_status}{': ' if quoted else ''}{quoted}"
    return HttpRefusal(told, code=code_of_http_status(http_status))


def excerpt(text: bytes | bytearray) -> str:
    """Return the first line that says something, if it is text."""
    line = next((line for line in text[:OPAQUE_KEPT].split(b"\n") if line.strip()), b"").strip()
    words = line.decode("utf-8", "replace")
    return words[:MAX_EXCERPT] if words.isprintable() and "\ufffd" not in words else ""
