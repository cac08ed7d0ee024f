"""Compressed messages of a reply, as the client can take them: unchanged in an encoding that it listed, else inflated
with a bound.
"""

from __future__ import annotations

from bridge.rpc.buffers import Account
from bridge.rpc.compression import IDENTITY, SUPPORTED, accepts, inflate
from bridge.rpc.envelope import PREFIX_SIZE, envelope
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

    def acceptable(self, message: bytes) -> bytes:
        """Return a compressed envelope as the client can take it. Raises BadReply, ReplyTooLarge, BuffersFull."""
        if self._encoding in ("", IDENTITY):
            raise BadReply("the function sent a compressed message but names no grpc-encoding")
        if not self.is_needed:
            return message
        limit = self._budget if self._max_response is None else min(self._max_response, self._budget)
        account = self._account
        room = limit if account is None else account.room
        try:
            plain = self.inflate(message[PREFIX_SIZE:], min(limit, room), "a response message")
        except ReplyTooLarge:
            if account is not None and room < limit:
                raise account.buffers.full(room) from None
            raise
        if account is not None:
            account.hold(len(plain))
        self._budget -= len(plain)
        return envelope(plain)

    def inflate(self, data: bytes, limit: int, what: str) -> bytes:
        """`limit`: bytes; `what` is told in errors. Raises BadReply, ReplyTooLarge."""
        encoding = self._encoding
        if encoding not in SUPPORTED or encoding == IDENTITY:
            raise BadReply(
                f"the function compressed {what} with {encoding[:40] or 'an encoding it does not name'}, "
                "which neither the"
                " client offered nor the bridge can undo"
            )
        try:
            return inflate(data, encoding, max_size=limit)
        except MessageTooLarge as error:
            raise ReplyTooLarge(f"{what} of the function inflates beyond {limit} bytes") from error


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
