"""protobuf's wire format (protobuf.dev/programming-guides/encoding), for the few messages that are read and written by
hand.

Generated code could clash with the user's in the process-wide descriptor pool, and would have to be imported.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def fields(raw: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each varint and length-delimited field. Others are skipped. Raises ValueError for
    invalid bytes.
    """
    at = 0
    while at < len(raw):
        tag, at = _read_varint(raw, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _read_varint(raw, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(raw, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(raw):
            raise ValueError("cut off")
        if kind == _BYTES:
            yield tag >> 3, raw[at : at + size]
        at += size


def bytes_in(found: dict[int, bytes | int], number: int) -> bytes:
    """Return the length-delimited field of this number, or empty bytes if it is missing."""
    value = found.get(number, b"")
    return value if isinstance(value, bytes) else b""


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            raise ValueError("cut off")
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a varint of more than ten bytes")


def varint(value: int) -> bytes:
    """Return a number of at most 64 bits as protobuf encodes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value
