"""Compressed messages of a reply, as the client can take them: unchanged in an encoding that it listed, else inflated
with a bound.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.rpc.buffers import Account
from bridge.rpc.compression import IDENTITY, SUPPORTED, accepts, inflate, inflate_pieces
from bridge.rpc.errors import BadReply, MessageTooLarge, ReplyTooLarge

MAX_INFLATED = 64 << 20
"""Bytes that all messages of one reply may inflate to where the bridge inflates them."""


class ReplyInflater:
    """Belongs to one reply."""

    __slots__ = ("_account", "_budget", "_encoding", "_max_response", "is_needed")

    def __init__(
        self,
        encoding: str,
        *,
        accept_encoding: str | None,
        max_response: int | None,
        account: Account | None = None,
    ) -> None:
        """Take the reply's `encoding`, empty if it names none, and `accept_encoding`, what the client lists.
        `max_response` is in bytes. `account` counts the messages that are inflated.
        """
        self._account = account
        self._encoding = encoding
        self._max_response = max_response
        self._budget = MAX_INFLATED
        self.is_needed = bool(encoding) and not accepts(accept_encoding, encoding)
        """Whether the client does not take the reply's encoding."""

    def must_inflate(self) -> bool:
        """Whether compressed messages must be inflated for the client. Raises BadReply if there should be none."""
        if self._encoding in ("", IDENTITY):
            raise BadReply("the function sent a compressed message but names no grpc-encoding")
        return self.is_needed

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield a compressed message in pieces, each inflated when it is taken. The account holds them.

        Taking them raises BadReply, ReplyTooLarge, BuffersFull.
        """
        self._check_encoding("a response message")
        limit = self._budget if self._max_response is None else min(self._max_response, self._budget)
        try:
            for piece in inflate_pieces(data, self._encoding, max_size=limit):
                if self._account is not None:
                    self._account.hold(len(piece))
                self._budget -= len(piece)
                yield piece
        except MessageTooLarge as error:
            raise ReplyTooLarge(f"a response message of the function inflates beyond {limit} bytes") from error

    def inflate_trailers(self, block: bytes, max_size: int) -> bytes:
        """Return an inflated trailers block of at most `max_size` bytes. Raises BadReply, ReplyTooLarge."""
        self._check_encoding("trailers")
        try:
            return inflate(block, self._encoding, max_size=max_size)
        except MessageTooLarge as error:
            raise ReplyTooLarge(f"the function's trailers inflate beyond {max_size} bytes") from error

    def _check_encoding(self, what: str) -> None:
        """Check that the bridge can undo the encoding. `what` is told in the error. Raises BadReply."""
        encoding = self._encoding
        if encoding not in SUPPORTED or encoding == IDENTITY:
            raise BadReply(
                f"the function compressed {what} with {encoding[:40] or 'an encoding it does not name'}, which neither"
                " the client offered nor the bridge can undo"
            )


_WITHOUT = ReplyInflater("", accept_encoding=None, max_response=None)
"""Of all replies that name no encoding: it only refuses."""


def inflater_for(
    encoding: str,
    *,
    accept_encoding: str | None,
    max_response: int | None,
    account: Account | None,
) -> ReplyInflater:
    """As ReplyInflater takes it."""
    if not encoding:
        return _WITHOUT
    return ReplyInflater(encoding, accept_encoding=accept_encoding, max_response=max_response, account=account)
