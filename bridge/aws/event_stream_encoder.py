"""Events of AWS's event stream (`application/vnd.amazon.eventstream`) as bytes: what InvokeWithResponseStream answers
with.

In: a type, a content type and a payload. Out: one message, with both its checksums. The decoder is a module of its own:
the bridge reads these messages, the local Lambda writes them.

A message: total length and length of its headers (u32 each), the CRC-32 of those 8 bytes, the headers, the payload, and
the CRC-32 of all before it. A header: its name after its length (u8), the kind of its value (7: a string), the value
after its length (u16).
https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from zlib import crc32

from bridge.aws.event_stream import CHECKSUM, FRAME_SIZE, STRING

EVENT_STREAM_TYPE = "application/vnd.amazon.eventstream"

_LENGTHS = Struct(">II")
_VALUE_LENGTH = Struct(">H")
_STRING = bytes((STRING,))


def encode_event(event_type: str, payload: bytes, *, content_type: str) -> bytes:
    """One message. `content_type` is that of the payload."""
    headers = _headers(event_type, content_type)
    lengths = _LENGTHS.pack(FRAME_SIZE + len(headers) + len(payload), len(headers))
    message = b"".join((lengths, CHECKSUM.pack(crc32(lengths)), headers, payload))
    return message + CHECKSUM.pack(crc32(message))


@cache  # The types and content types of an API are few, and none comes from outside.
def _headers(event_type: str, content_type: str) -> bytes:
    fields = {
        ":event-type": event_type,
        ":content-type": content_type,
        ":message-type": "event",
    }
    return b"".join(_header(name.encode(), value.encode()) for name, value in fields.items())


def _header(name: bytes, value: bytes) -> bytes:
    return b"".join((bytes((len(name),)), name, _STRING, _VALUE_LENGTH.pack(len(value)), value))
