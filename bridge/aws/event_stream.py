"""application/vnd.amazon.eventstream: chunks of bytes in, events out.

An event is lengths and a checksum of them, headers, a payload, and a checksum of it all. Both checksums are verified.
Declared sizes are compared with their bounds before anything is held. What the events mean is response_stream's
business.

https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

from bridge.rpc.errors import BadReply, CutReply
from bridge.rpc.value import FrozenValue

MAX_HEADERS = 128 << 10
"""Bytes of one event's headers, as in AWS's own SDKs."""

MAX_PAYLOAD = 24 << 20
"""Bytes of one event's payload, as in AWS's own SDKs."""

_LENGTHS = Struct("!III")
"""Of the whole event and of its headers; the checksum of these two."""
CHECKSUM = Struct("!I")
_CHECKED_LENGTHS = _LENGTHS.size - CHECKSUM.size
FRAME_SIZE = _LENGTHS.size + CHECKSUM.size
"""Bytes of an event without headers and payload."""

STRING = 7
_WITH_LENGTH = frozenset((6, STRING))
"""Header types whose value begins with its length, of two bytes: bytes and strings."""
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of the others: true, false, byte, short, integer, long, timestamp, UUID."""


class StreamedEvent(FrozenValue, frozen=True):
    """One event with valid checksums."""

    headers: tuple[tuple[str, str], ...]
    """Those that are strings, as all that AWS uses are."""
    payload: bytes

    def header(self, name: str) -> str:
        """Return the value of a string header, or an empty text."""
        for key, value in self.headers:
            if key == name:
                return value
        return ""


class EventStreamReader:
    """Cuts chunks into events: `feed` bytes, then take with `next_event` until it has none. Then `finish`.

    At most a chunk and one event that is not whole yet are held.
    """

    __slots__ = ("_at", "_buffer")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    @property
    def held(self) -> int:
        """Bytes held until their event is complete."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next_event(self) -> StreamedEvent | None:
        """Return the next whole event, or None if it is incomplete. After a BadReply the stream cannot be used."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < _LENGTHS.size:
            return None
        size, headers_size = _checked_lengths(buffer, at)
        if len(buffer) - at < size:
            return None
        self._at = at + size
        return _event(bytes(buffer[at : self._at]), headers_size)

    def finish(self) -> None:
        """End the stream. Raises CutReply if it ends inside an event."""
        if len(self._buffer) > self._at:
            raise CutReply("AWS's event stream ends in the middle of an event")


def _checked_lengths(buffer: bytearray, at: int) -> tuple[int, int]:
    size, headers_size, checksum = _LENGTHS.unpack_from(buffer, at)
    if crc32(buffer[at : at + _CHECKED_LENGTHS]) != checksum:
        raise BadReply("an event of AWS's event stream has a wrong checksum over its lengths")
    payload_size = size - headers_size - FRAME_SIZE
    if headers_size > MAX_HEADERS or not 0 <= payload_size <= MAX_PAYLOAD:
        raise BadReply(
            f"an event of AWS's event stream declares {size} bytes with {headers_size} of headers, which is none"
        )
    return size, headers_size


def _event(whole: bytes, headers_size: int) -> StreamedEvent:
    end = len(whole) - CHECKSUM.size
    if crc32(memoryview(whole)[:end]) != CHECKSUM.unpack_from(whole, end)[0]:
        raise BadReply("an event of AWS's event stream has a wrong checksum")
    start = _LENGTHS.size + headers_size
    return StreamedEvent(tuple(_headers(whole[_LENGTHS.size : start])), whole[start:end])


def _headers(block: bytes) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    names: set[bytes] = set()
    at, end = 0, len(block)
    try:
        while at < end:
            name_end = at + 1 + block[at]
            name, kind = block[at + 1 : name_end], block[name_end]
            start = name_end + 1
            if kind in _WITH_LENGTH:
                start += 2
                at = start + int.from_bytes(block[start - 2 : start], "big")
            else:
                at = start + _SIZES[kind]
            if at > end or name in names:
                raise BadReply("an event of AWS's event stream has headers that cannot be read")
            names.add(name)
            if kind == STRING:
                found.append((name.decode(), block[start:at].decode()))
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise BadReply("an event of AWS's event stream has headers that cannot be read") from error
    return found
