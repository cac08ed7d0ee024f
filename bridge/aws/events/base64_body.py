"""Base64 as functions write it. AWS's front doors take more than the plain form of RFC 4648, and so does the bridge."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64

_LINE_BREAKS = b"\r\n\t "
"""What MIME encoders put between lines (RFC 2045 6.8), such as Java's and Python's `encodebytes`."""
_TO_PLAIN = bytes.maketrans(b"-_", b"+/")
"""From the URL-safe alphabet (RFC 4648 5)."""


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64 with line breaks, without padding or in the URL-safe alphabet. Raises ValueError."""
    try:
        return a2b_base64(text, strict_mode=True)
    except Base64Error:
        return _decode_unusual(text.encode("ascii"))


def _decode_unusual(text: bytes) -> bytes:
    plain = text.translate(_TO_PLAIN, _LINE_BREAKS)
    digits = plain.rstrip(b"=")
    padding = b"=" * (-len(digits) % 4)
    if len(plain) != len(digits) and len(plain) != len(digits) + len(padding):
        raise ValueError("padding that does not end a group of four")
    return a2b_base64(digits + padding, strict_mode=True)  # Base64Error is a ValueError
