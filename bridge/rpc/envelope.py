"""Length-Prefixed-Message: one flag byte, four bytes of length, the data (gRPC PROTOCOL-HTTP2).

`EnvelopeScanner` checks a request body as it passes without taking it apart; `EnvelopeReader` cuts a body into
envelopes. Both compare the declared length with their limit before a byte of the message is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Layout

from bridge.rpc.errors import MalformedRequest, MessageTooLarge

PREFIX_SIZE = 5
COMPRESSED = 0x01
TRAILERS = 0x80
"""gRPC-Web only: this envelope holds the trailers (grpc PROTOCOL-WEB)."""


parse_prefix = Layout(">BL").unpack_from
"""From (bytes, position): the flags and the data's length. Raises struct.error for less than a prefix."""


def envelope(message: bytes, *, flags: int = 0) -> bytes:
    return bytes((flags,)) + len(message).to_bytes(4, "big") + message


def data_of(envelope_bytes: bytes) -> bytes:
    return envelope_bytes[PREFIX_SIZE:]


def _check(flags: int, size: int, max_message: int) -> None:
    if flags > COMPRESSED:
        raise MalformedRequest(f"a message begins with flag byte 0x{flags:02x}; gRPC knows 0x00 and 0x01")
    if size > max_message:
        raise MessageTooLarge(f"a request message of {size} bytes is above max_request ({max_message} bytes)")


class EnvelopeScanner:
    """Follows a body across its chunks: counts messages, checks flags and declared sizes, holds at most a prefix."""

    __slots__ = ("_max_message", "_prefix", "_skip", "count", "has_compressed")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._prefix = b""
        self._skip = 0
        self.count = 0
        """Messages whose prefix has arrived."""
        self.has_compressed = False

    @property
    def is_inside(self) -> bool:
        """Whether a message has begun that is not whole."""
        return self._skip > 0 or bool(self._prefix)

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises MalformedRequest and MessageTooLarge."""
        at, end = 0, len(data)
        if self._prefix:
            data, self._prefix = self._prefix + data, b""
            end = len(data)
        if self._skip:
            at = min(self._skip, end)
            self._skip -= at
        while at < end:
            if end - at < PREFIX_SIZE:
                self._prefix = data[at:]
                return
            flags, size = data[at], int.from_bytes(data[at + 1 : at + PREFIX_SIZE], "big")
            if flags or size > self._max_message:
                _check(flags, size, self._max_message)
                self.has_compressed = True
            self.count += 1
            at += PREFIX_SIZE + size
        self._skip += at - end

    def finish(self) -> None:
        """End the body. Raises MalformedRequest if it ends inside a message."""
        if self._skip or self._prefix:
            raise MalformedRequest("the request ends in the middle of a message")


class EnvelopeReader:
    """Cuts chunks into envelopes: `feed` bytes, then take with `next_envelope` until it has none."""

    __slots__ = ("_at", "_buffer", "_max_message")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._buffer = bytearray()
        self._at = 0

    @property
    def is_inside(self) -> bool:
        """Whether a message has begun that is not whole."""
        return len(self._buffer) > self._at

    def feed(self, data: bytes) -> None:
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next_envelope(self) -> bytes | None:
        """Return the next whole envelope, prefix included, or None if it has not all arrived. Raises as the scanner
        does.
        """
        size = self._size_of_next()
        if size is None:
            return None
        start, self._at = self._at, self._at + size
        return bytes(self._buffer[start : self._at])

    @property
    def has_envelope(self) -> bool:
        """Whether the next envelope has arrived whole. Raises as `next_envelope` does."""
        return self._size_of_next() is not None

    def _size_of_next(self) -> int | None:
        """Return the bytes of the next envelope, or None if it has not all arrived."""
        have = len(self._buffer) - self._at
        if have < PREFIX_SIZE:
            return None
        size = PREFIX_SIZE + int.from_bytes(self._buffer[self._at + 1 : self._at + PREFIX_SIZE], "big")
        _check(self._buffer[self._at], size - PREFIX_SIZE, self._max_message)
        return size if have >= size else None

    def take_rest(self) -> bytes:
        """Return all bytes that no envelope was made of, and keep none."""
        rest = bytes(self._buffer[self._at :])
        self.clear()
        return rest

    def put_back(self, envelopes: Sequence[bytes]) -> None:
        """Put envelopes in front of what is left: `next_envelope` gives them next."""
        self._buffer[: self._at] = b"".join(envelopes)
        self._at = 0

    def clear(self) -> None:
        """Nothing of what has come is wanted any more."""
        self._buffer.clear()
        self._at = 0

    def finish(self) -> None:
        """End the body. Raises MalformedRequest if it ends inside a message."""
        if len(self._buffer) > self._at:
            raise MalformedRequest("the request ends in the middle of a message")
