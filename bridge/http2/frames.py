"""Defines the layout of HTTP/2 frames (RFC 9113 4.1 and 6), and makes frames from numbers. It has no state and no
rules.
"""

from __future__ import annotations

from struct import Struct as Layout

HEAD_SIZE = 9
"""Bytes in front of every frame's payload."""
_TYPE_AT = 3

# Types. Plain ints: they are compared and indexed with once per frame.
DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

# Flags.
ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

# Settings (6.5.2).
HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

MAX_STREAM_ID = (1 << 31) - 1
MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65535
SMALLEST_MAX_FRAME = 1 << 14
LARGEST_MAX_FRAME = (1 << 24) - 1

PRIORITY_SIZE = 5
SETTING = Layout(">HL")
UINT32 = Layout(">L")

_HEAD = Layout(">HBBBL")
parse_head = _HEAD.unpack_from
"""From (bytes, position): the length's upper two bytes and its lowest one, type, flags, reserved bit and stream id."""
pack_head = _HEAD.pack
pack_small_head = Layout(">BHBBL").pack
"""For lengths that fit two bytes: 0, the length, type, flags, stream id."""


def head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    return pack_head(size >> 8, size & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return head(len(payload), kind, flags, stream_id) + payload


def begins_block(data: bytes) -> bool:
    """Whether this, the beginning of a frame, belongs to a header block."""
    return len(data) > _TYPE_AT and data[_TYPE_AT] in (HEADERS, CONTINUATION)


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([SETTING.pack(*item) for item in values.items()]))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, UINT32.pack(increment))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, UINT32.pack(code))


def goaway(last_stream_id: int, code: int, reason: bytes) -> bytes:
    return frame(GOAWAY, 0, 0, UINT32.pack(last_stream_id) + UINT32.pack(code) + reason)


SETTINGS_ACK = frame(SETTINGS, ACK, 0, b"")
