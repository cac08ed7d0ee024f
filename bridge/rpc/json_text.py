"""JSON as programs write it: a byte order mark may stand in front, which RFC 8259 8.1 lets a reader ignore."""

from __future__ import annotations

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def without_mark(text: bytes) -> bytes:
    """Return the text without a byte order mark in front."""
    return text.removeprefix(BYTE_ORDER_MARK)
