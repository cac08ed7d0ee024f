"""Event streams as Lambda sends them, written out here so that our encoder and decoder have a third to agree with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from struct import pack
from zlib import crc32


def string_header(name: str, value: str) -> bytes:
    encoded = value.encode()
    return bytes((len(name),)) + name.encode() + b"\x07" + pack("!H", len(encoded)) + encoded


def raw_event(headers: bytes, payload: bytes) -> bytes:
    """An event of any header block, with right checksums."""
    start = pack("!II", len(headers) + len(payload) + 16, len(headers))
    body = start + pack("!I", crc32(start)) + headers + payload
    return body + pack("!I", crc32(body))


def event(headers: Mapping[str, str], payload: bytes) -> bytes:
    return raw_event(b"".join(string_header(*field) for field in headers.items()), payload)


def payload_chunk(payload: bytes) -> bytes:
    headers = {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    return event(headers, payload)


def invoke_complete(**members: str) -> bytes:
    headers = {
        ":event-type": "InvokeComplete",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return event(headers, json.dumps(members).encode() if members else b"{}")


CHUNK = payload_chunk(b"hello")


def prelude(http_status: int = 200, **headers: str) -> bytes:
    """The beginning of a streamed HTTP reply; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {"statusCode": http_status, "headers": named, "cookies": []}
    return json.dumps(head).encode() + bytes(8)


WEB_PRELUDE = prelude(content_type="application/grpc-web+proto")


def http_chunk(data: bytes) -> bytes:
    """A chunk of a body with `transfer-encoding: chunked`."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def stream_head(*fields: str) -> bytes:
    """The head of Lambda's answer to InvokeWithResponseStream."""
    lines = [
        "HTTP/1.1 200 OK",
        "content-type: application/vnd.amazon.eventstream",
        "x-amzn-requestid: id-1",
        "transfer-encoding: chunked",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def stream_of(*events: bytes) -> bytes:
    """A whole answer, a chunk an event."""
    return stream_head() + b"".join(map(http_chunk, events)) + LAST_CHUNK
