"""Recognises the first bytes of a connection: HTTP/2's preface, a misdirected HTTP/1 request or TLS client, or neither.

Takes the bytes so far. The verdict does not depend on how they are cut. It does not know frames.
"""

from __future__ import annotations

from enum import Enum, auto

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HTTP1_REASON = "an HTTP/1.x request"
"""The reason of the ConnectionFailed after an HTTP/1 request. Its code is HTTP_1_1_REQUIRED."""

TLS_REASON = "a TLS client"
"""The reason of the ConnectionFailed after a ClientHello on a port without TLS."""

_BODY = b"this port speaks gRPC over HTTP/2\n"
HTTP1_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n%s" % (len(_BODY), _BODY)
)
"""The answer to an HTTP/1 client, which could not read frames."""

_HTTP1_BEGINNINGS = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"PATCH ",
    b"DELETE ",
    b"OPTIONS ",
    b"TRACE ",
    b"CONNECT ",
)


_CLIENT_HELLO = b"\x16\x03"
"""How each TLS client begins (RFC 8446 5.1): a handshake record, and the first half of a version."""


class Verdict(Enum):
    """The kinds of first bytes."""

    UNDECIDED = auto()
    HTTP2 = auto()
    HTTP1 = auto()
    TLS = auto()
    UNKNOWN = auto()


def judge(data: bytes) -> Verdict:
    """Judge all bytes from the first one. Undecided bytes are shorter than the preface."""
    if data.startswith(PREFACE):
        return Verdict.HTTP2
    if data.startswith(_HTTP1_BEGINNINGS):
        return Verdict.HTTP1
    if data.startswith(_CLIENT_HELLO):
        return Verdict.TLS
    if any(beginning.startswith(data) for beginning in (PREFACE, _CLIENT_HELLO, *_HTTP1_BEGINNINGS)):
        return Verdict.UNDECIDED
    return Verdict.UNKNOWN
