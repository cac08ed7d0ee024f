"""Cuts the body of a gRPC response into messages, and counts the bytes that wait.

In: body bytes as they arrive. Out: envelopes of plain messages. It does not know the connection: the call credits the
server with what `uncredited` says.
"""

from __future__ import annotations

from collections import deque

from bridge.carriers.grpc.inflating import inflate_message
from bridge.rpc.buffers import Account, Portion
from bridge.rpc.compression import IDENTITY, SUPPORTED
from bridge.rpc.envelope import COMPRESSED, PREFIX_SIZE, data_of, envelope, parse_prefix
from bridge.rpc.errors import BadReply, MessageTooLarge, ReplyTooLarge


class MessageReader:
    """Reads the messages of one response."""

    __slots__ = (
        "_account",
        "_at",
        "_chunks",
        "_current",
        "_held",
        "_limit",
        "_name",
        "_size",
        "encoding",
        "uncredited",
    )

    def __init__(self, name: str, *, limit: int, account: Account) -> None:
        """`name` is the server's in messages. `limit` bounds a message (bytes). `account` is the call's."""
        self._name = name
        self._limit = limit
        self._account = account
        self._held = Portion(account)
        self._size = 0
        """Body bytes that are held."""
        self.encoding = IDENTITY
        """The encoding of compressed messages."""
        self._chunks: deque[bytes] = deque()
        """Body bytes that the server has not been credited for."""
        self._current: bytes | bytearray = b""
        """Body bytes to be cut into messages, and (below) where the next one begins."""
        self._at = 0
        self.uncredited = 0
        """Bytes taken since the server was last credited. The call sets it to 0."""

    @property
    def has_chunks(self) -> bool:
        """Whether body bytes have arrived that `next_envelope` has not looked at."""
        return bool(self._chunks)

    @property
    def is_inside(self) -> bool:
        """Whether a message has begun that is not whole."""
        return len(self._current) > self._at

    def add(self, data: bytes) -> None:
        """Keep body bytes. Raises BuffersFull."""
        self._count(len(data))
        self._chunks.append(data)

    def next_envelope(self) -> bytes | None:
        """Return the next whole envelope, or None if it has not all arrived. Raises BadReply, ReplyTooLarge."""
        while True:
            data, at = self._current, self._at
            have = len(data) - at
            if have >= PREFIX_SIZE:
                flags, size = parse_prefix(data, at)
                self._check(flags, size)
                if have >= PREFIX_SIZE + size:
                    self._at = end = at + PREFIX_SIZE + size
                    self._count(-PREFIX_SIZE - size)
                    if not at and end == len(data) and isinstance(data, bytes):
                        return data
                    return bytes(memoryview(data)[at:end])
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self.uncredited += len(chunk)
            if not have:
                self._current, self._at = chunk, 0
                continue
            if not isinstance(data, bytearray):
                data = self._current = bytearray(memoryview(data)[at:])
            elif at:
                del data[:at]
            self._at = 0
            data += chunk

    async def plain(self, found: bytes) -> bytes:
        """Return the envelope with its message inflated. Raises BadReply, ReplyTooLarge, BuffersFull."""
        if not found[0]:
            return found
        encoding = self.encoding
        if encoding == IDENTITY:
            raise BadReply(f"{self._name} sent a compressed message but names no grpc-encoding")
        if encoding not in SUPPORTED:
            raise BadReply(f"{self._name} compressed a message with {encoding[:40]}, which was not offered to it")
        try:
            return envelope(
                await inflate_message(data_of(found), encoding, max_size=self._limit, account=self._account)
            )
        except MessageTooLarge as error:
            raise self._too_large("of more bytes, once inflated,") from error
        except BadReply as error:
            raise BadReply(f"a message from {self._name} does not decode as {encoding}") from error

    def clear(self) -> None:
        """Drop the body bytes that wait."""
        self._chunks.clear()
        self._current, self._at = b"", 0

    def close(self) -> None:
        """Stop counting."""
        self._held.become(0)

    def _count(self, change: int) -> None:
        """Count this many more body bytes as held. Raises BuffersFull, and then counts none of them."""
        size, covered = self._size + change, self._account.buffers.covered
        if size > covered or self._held.size:
            self._held.become(max(0, size - covered))
        self._size = size

    def _check(self, flags: int, size: int) -> None:
        if flags > COMPRESSED:
            raise BadReply(f"{self._name} sent a message with flag byte 0x{flags:02x}; gRPC knows 0x00 and 0x01")
        if size > self._limit:
            raise self._too_large(f"of {size} bytes")

    def _too_large(self, size: str) -> ReplyTooLarge:
        return ReplyTooLarge(f"a response message {size} from {self._name} is above max_response ({self._limit} bytes)")
