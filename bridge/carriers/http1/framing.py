"""How the body of a response is framed (RFC 9112 6 and 7): by a length, by chunks, or by the connection's end.

llhttp parses the body, but does not tell the length of a chunk before its bytes have arrived. `Framing` finds it, so
that a length beyond a limit ends the exchange at once.
"""

from __future__ import annotations

import re

from bridge.rpc.errors import BadReply
from bridge.rpc.url import Origin

MAX_LENGTH = 1 << 40
"""The largest declared length of a body or a chunk (bytes). A longer declaration, up to 2⁶⁴, is a mistake or an attack.
"""

MAX_SIZE_LINE = 256
"""Bytes kept of the line before a chunk. It begins with the size and rarely says more."""

_CHUNK_SIZE = re.compile(rb"0*([0-9A-Fa-f]+)[ \t]*(?:;.*)?", re.DOTALL).fullmatch
"""Matches the line before a chunk (RFC 9112 7.1)."""

RawFields = list[tuple[bytes, bytes]]
"""Header fields in the order received, with names in lower case."""


class Framing:
    """Follows the framing of the responses on one connection."""

    __slots__ = ("_checked", "_chunk_from", "_is_chunked", "_origin", "_size_line")

    def __init__(self, origin: Origin) -> None:
        """`origin` is the server's, for messages."""
        self._origin = origin
        self._checked: RawFields | None = None
        """The head whose codings are known."""
        self._is_chunked = False
        self._chunk_from: int | None = None
        """The length of the body when the current chunk began. None if no chunk is open, or its size was checked."""
        self._size_line = b""
        """The end of the last read, after its last line break. It may begin the line with a chunk's size."""

    def begin_chunk(self, head: RawFields, received: int) -> BadReply | None:
        """Note that a chunk begins behind `received` bytes. Returns an error for a coding that nobody asked for."""
        # A response may end in the read that brings its head; where these bytes are cut, llhttp may see another coding.
        error = self._take_codings(head)
        if error is None:
            self._chunk_from = received
        return error

    def end_chunk(self) -> None:
        self._chunk_from = None

    def check(self, head: RawFields, read: memoryview, received: int) -> int | BadReply | None:
        """Return the length that a body or a chunk declares, if the last read has brought the declaration.

        `read` holds the bytes of that read, and `received` counts those of the body so far. Returns an error for a
        length that no reply has, and for a coding that nobody asked for.
        """
        declared = None
        if self._checked is not head:
            error = self._take_codings(head)
            if error is not None:
                return error
            declared = declared_length(head)
        if self._is_chunked:
            declared = self._chunk_size(read, received)
        if declared is not None and declared >= MAX_LENGTH:
            return BadReply(f"{self._origin} announces {declared} bytes, which is no length of a reply")
        return declared

    def _take_codings(self, head: RawFields) -> BadReply | None:
        if self._checked is head:
            return None
        self._checked = head
        codings = transfer_codings(head)
        self._is_chunked = codings == [b"chunked"]
        if codings not in ([], [b"chunked"], [b"identity"]):
            return BadReply(f"{self._origin} answers in a transfer coding that was not asked for")
        return None

    def _chunk_size(self, read: memoryview, received: int) -> int | None:
        """Return the size of the chunk in which the read ended, if it is known now and was not before."""
        begun, self._chunk_from = self._chunk_from, None
        # The line with the chunk's size stands before its bytes. The last read may have had the beginning of that line.
        end = len(read) if begun is None else len(read) - (received - begun)
        text = bytes(read[max(0, end - MAX_SIZE_LINE) : end])
        if b"\n" not in text[:-2]:  # the line is long, or it began in the last read
            text = self._size_line + bytes(read[:end])
        is_size = begun is not None and text.endswith(b"\r\n")
        line = (text.removesuffix(b"\r\n") if is_size else text).rpartition(b"\n")[2]
        self._size_line = line[:MAX_SIZE_LINE] if begun is None else b""
        # The last chunk is empty and lasts until its trailers have arrived. Then this line is a trailer.
        size = _CHUNK_SIZE(line) if is_size else None
        return None if size is None else int(size[1], 16)


def declared_length(fields: RawFields) -> int | None:
    """Return the length that the head declares for the body. llhttp has checked that it is one number below 2⁶⁴."""
    for name, value in fields:
        if name == b"content-length":
            return int(value.strip().lstrip(b"0") or b"0")
    return None


def transfer_codings(fields: RawFields) -> list[bytes]:
    """Return the transfer codings that the head of a response names, in lower case."""
    values = b",".join(value for name, value in fields if name == b"transfer-encoding")
    return [coding.strip().lower() for coding in values.split(b",") if coding.strip()]


def ends_with_connection(fields: RawFields) -> bool:
    """Whether nothing in the head says where the body ends (RFC 9112 6.3)."""
    codings = transfer_codings(fields)
    if codings:
        return codings[-1] != b"chunked"
    return declared_length(fields) is None
