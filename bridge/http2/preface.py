"""The first bytes of a connection: HTTP/2's preface, an HTTP/1 request that lost its way, or neither.

Takes what has arrived so far; the verdict is the same however the bytes are cut. Knows nothing of frames.
"""

from __future__ import annotations

from enum import Enum, auto

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HTTP1_REASON = "an HTTP/1.x request"
"""The reason of the ConnectionFailed that follows an HTTP/1 request; its code is HTTP_1_1_REQUIRED."""

_BODY = b"this port speaks gRPC over HTTP/2\n"
HTTP1_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: close\r\n"
    b"\r\n%s" % (len(_BODY), _BODY)
)
"""All that an HTTP/1 client is sent, in place of frames that it could not read."""

_HTTP1_BEGINNINGS = (
    b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"TRACE ", b"CONNECT ",
)  # fmt: skip


class Verdict(Enum):
    """What the first bytes are."""

    UNDECIDED = auto()
    HTTP2 = auto()
    HTTP1 = auto()
    UNKNOWN = auto()


def judge(data: bytes) -> Verdict:
    """Takes all that has arrived, from the first byte. What is UNDECIDED is shorter than the preface."""
    if data.startswith(PREFACE):
        return Verdict.HTTP2
    if data.startswith(_HTTP1_BEGINNINGS):
        return Verdict.HTTP1
    if any(beginning.startswith(data) for beginning in (PREFACE, *_HTTP1_BEGINNINGS)):
        return Verdict.UNDECIDED
    return Verdict.UNKNOWN
