"""The outcome of a call: StatusCode, Status, and the text form of its message (gRPC PROTOCOL-HTTP2, "Status")."""

from __future__ import annotations

import re
from binascii import unhexlify
from enum import IntEnum
from urllib.parse import quote_from_bytes

from bridge.rpc.value import FrozenValue


class StatusCode(IntEnum):
    """The codes of gRPC's statuscodes.md."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODES: tuple[StatusCode, ...] = tuple(StatusCode)
"""Every code at its number."""

CAMEL_CASE_NAMES: tuple[str, ...] = (
    "OK",
    "Canceled",
    *("".join(word.title() for word in code.name.split("_")) for code in CODES[2:]),
)
"""The names that grpc-go and the Prometheus label `grpc_code` use, at their number."""


class Status(FrozenValue, frozen=True):
    """A call's outcome."""

    code: StatusCode
    message: str = ""
    """Plain text; percent-encoding exists on the wire only."""
    details: bytes = b""
    """A serialized google.rpc.Status, as `grpc-status-details-bin` carries it; empty: absent."""


OK = Status(StatusCode.OK)

# gRPC PROTOCOL-HTTP2, "Percent-Encoded": 0x20-0x24 and 0x26-0x7E stand for themselves.
_UNENCODED = bytes(byte for byte in range(0x20, 0x7F) if byte != 0x25)
ENCODED_SPACE = "%20"
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
LONGEST_MESSAGE = 64 << 10
"""Bytes of a `grpc-message` that are read. Clients take less, and a reply may bring megabytes."""
CUT_MARK = " [cut]"
"""Ends a message that was cut off."""
_LONE_SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def encode_message(message: str) -> str:
    """Return the `grpc-message` that carries this text. Spaces at its ends are encoded, too: HTTP takes them for
    padding, and HTTP/2 forbids them (RFC 9110 5.5, RFC 9113 8.2.1).
    """
    without_leading = message.lstrip(" ")
    text = without_leading.rstrip(" ")
    leading, trailing = len(message) - len(without_leading), len(without_leading) - len(text)
    if not text.isascii() or not text.isprintable() or "%" in text:
        text = quote_from_bytes(_utf_8(text), safe=_UNENCODED)
    return ENCODED_SPACE * leading + text + ENCODED_SPACE * trailing


def decode_message(value: str) -> str:
    """Return the text in a `grpc-message`, of at most LONGEST_MESSAGE bytes. A broken escape stands for itself: the
    message must not be lost with it.
    """
    if len(value) > LONGEST_MESSAGE:
        return decode_message(value[:LONGEST_MESSAGE]) + CUT_MARK
    if "%" not in value and value.isascii():
        return value
    # Field values are Latin-1, a character a byte; a value that came as JSON may hold any text.
    is_latin_1 = max(value) <= "\xff"
    raw = value.encode("latin-1") if is_latin_1 else _utf_8(value)
    return _ESCAPES.sub(_unescaped, raw).decode("utf-8", "surrogateescape")


def _unescaped(escapes: re.Match[bytes]) -> bytes:
    return unhexlify(escapes[0].replace(b"%", b""))


def _utf_8(text: str) -> bytes:
    """Return the text's bytes; what `surrogateescape` hid comes out again, other lone surrogates have no bytes and are
    replaced.
    """
    return _LONE_SURROGATE.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def parse_code(value: str) -> StatusCode:
    """Return the code in a `grpc-status`, or UNKNOWN for what is not one (gRPC's statuscodes.md)."""
    if value.isascii() and value.isdigit() and len(value) <= 2 and int(value) < len(CODES):
        return CODES[int(value)]
    return StatusCode.UNKNOWN


# grpc doc/http-grpc-status-mapping.md: for replies without a grpc-status. 431 follows the conformance suite, 413 our
# own rule that whatever is too large is RESOURCE_EXHAUSTED.
_CODE_OF_HTTP_STATUS = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}


def code_of_http_status(http_status: int) -> StatusCode:
    """Return the code that stands for an HTTP reply which carries none."""
    return _CODE_OF_HTTP_STATUS.get(http_status, StatusCode.UNKNOWN)
