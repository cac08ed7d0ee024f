"""The two ways to read a response: whole within a bound, or in parts as the reader asks for them.

Both are Exchanges of an HTTP connection, which calls them as bytes arrive. Neither knows the request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from bridge.carriers.http1.connection import Http1Connection
from bridge.carriers.http1.framing import RawFields
from bridge.rpc.buffers import SMALL, Account, Portion, WaitingForRoom
from bridge.rpc.errors import BadReply, BuffersFull, ReplyTooLarge, RpcError
from bridge.rpc.value import FrozenValue

HIGH_WATER = 256 << 10
"""Unread bytes above which reading from the connection pauses."""

_LOW_WATER = 64 << 10
"""Unread bytes below which reading resumes."""


class Response(FrozenValue, frozen=True):
    """A whole response."""

    status: int
    fields: RawFields
    body: bytes

    def field(self, name: bytes) -> str:
        """Return the first value under this name, given in lower case. Empty if the response lacks it."""
        return first_field(self.fields, name)


def first_field(fields: RawFields, name: bytes) -> str:
    """Return the first value under `name` (lower case), or an empty text."""
    for key, value in fields:
        if key == name:
            # RFC 9110 5.5: a value is bytes. Those beyond ASCII have no defined meaning.
            return value.decode("latin-1")
    return ""


class _Pause(NamedTuple):
    """A response that waits for room."""

    connection: Http1Connection
    waiting: WaitingForRoom
    too_late: asyncio.TimerHandle


class Gathering:
    """Reads a whole response of at most `max_body` bytes.

    Bytes beyond the call's fixed cost are counted before they are kept. They count twice: as they arrive, and as what
    is read from them.
    """

    __slots__ = ("_account", "_allowed", "_fields", "_left", "_max_body", "_parts", "_pause", "_status", "answer")

    def __init__(self, answer: asyncio.Future[Response], max_body: int, account: Account | None = None) -> None:
        """`account` is that of the call that the response is for. The call's end gives back what was held."""
        self.answer = answer
        self._account = account
        self._max_body = max_body
        self._allowed = self._left = min(max_body, SMALL)
        """Bytes of the body that have room, and (`_left`) how many of them have not arrived yet."""
        self._parts: list[bytes] = []
        self._pause: _Pause | None = None
        """While there is no room for the body."""

    def begin(self, status: int, fields: RawFields) -> None:
        self._status = status
        self._fields = fields

    @property
    def received(self) -> int:
        return self._allowed - self._left

    def expect(self, length: int, connection: Http1Connection) -> RpcError | None:
        if length > self._max_body:
            return ReplyTooLarge(f"a reply of {length} bytes, the limit is {self._max_body}")
        error = self._allow(length)
        if error is None or self._account is None:
            return error
        # The function has run: its reply waits on the connection, unread, for others to let go of what they hold.
        size = length - self._allowed
        buffers = self._account.buffers
        self._pause = _Pause(
            connection,
            buffers.wait(self._account, 2 * size, partial(self._granted, size)),
            asyncio.get_running_loop().call_later(buffers.room_wait, self._give_up, 2 * size),
        )
        connection.pause()
        buffers.tell_freed()
        return None

    def _granted(self, size: int) -> None:
        self._allowed += size
        self._left += size
        pause = self._end_pause()
        assert pause is not None
        pause.connection.resume()

    def _give_up(self, size: int) -> None:
        pause = self._end_pause()
        assert pause is not None
        assert self._account is not None
        pause.connection.abort()
        self.fail(self._account.buffers.full(size))

    def _end_pause(self) -> _Pause | None:
        # Nothing of it stays: it refers to this exchange, and would keep it until the next collection.
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.waiting.is_over = True
            pause.too_late.cancel()
        return pause

    def add(self, body: bytes) -> RpcError | None:
        self._left -= len(body)
        if self._left < 0:
            error = self._allow(self._allowed - self._left)
            if error is not None and (self._parts or not isinstance(error, BuffersFull)):
                return error
            if error is not None:
                # What came with the head: `expect` follows, and lets the rest wait.
                self._hold_anyway(-self._left)
        self._parts.append(body)
        return None

    def _hold_anyway(self, size: int) -> None:
        assert self._account is not None
        self._account.hold_anyway(2 * size)
        self._allowed += size
        self._left += size

    def _allow(self, size: int) -> RpcError | None:
        """Make room for a body of this many bytes in all. Returns an error if there is no room."""
        more = size - self._allowed
        if more <= 0:
            return None
        if size > self._max_body:
            return ReplyTooLarge(f"a reply of more than {self._max_body} bytes, which is the limit")
        if self._account is not None:
            if 2 * more > self._account.room:
                # Not raised: an error that was, and the frames that name it, stay until the next collection.
                return self._account.buffers.full(2 * more)
            self._account.hold(2 * more)
        self._allowed = size
        self._left += more
        return None

    def end(self) -> bool:
        answer, parts = self.answer, self._parts
        if answer.done():
            return not answer.cancelled()
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        answer.set_result(Response(self._status, self._fields, body))
        return True

    def fail(self, error: RpcError) -> None:
        self.abandon()
        if not self.answer.done():
            self.answer.set_exception(error)

    def abandon(self) -> None:
        """Nobody waits for the response any more."""
        self._parts.clear()
        self._end_pause()


class StreamedResponse:
    """A response whose body is read in parts, only as fast as the reader asks for them.

        async with await pool.open(head, body) as response:
            async for part in response: ...

    Leaving the block before the end closes the connection. Reading raises ConnectionLost, BadReply.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_held",
        "_is_whole",
        "_news",
        "_parts",
        "_unread",
        "begun",
        "fields",
        "received",
        "status",
    )

    def __init__(self, begun: asyncio.Future[None], account: Account | None = None) -> None:
        """`account` is that of the call that the response is for."""
        self._held = None if account is None else Portion(account)
        self.begun = begun
        """Done when the head has arrived."""
        self.status = 0
        self.fields: RawFields = []
        self.received = 0
        self._connection: Http1Connection | None = None
        self._parts: deque[bytes] = deque()
        self._unread = 0
        self._is_whole = False
        self._error: RpcError | None = None
        self._news: asyncio.Future[None] | None = None

    def field(self, name: bytes) -> str:
        """Return the first value under this name, given in lower case. Empty if the response lacks it."""
        return first_field(self.fields, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading. Before the end of the response this closes the connection: HTTP/1.1 has no other way."""
        if not self._is_whole and self._connection is not None:
            self._connection.abort()
        if self._error is None and not self._is_whole:
            self._error = BadReply("the response was closed before its end")
        self._parts.clear()
        self._count(0)
        self._wake()

    async def gather(self, max_body: int) -> Response:
        """Read the rest as a whole response, with a body of at most this many bytes. Raises ReplyTooLarge as well."""
        parts, size = [], 0
        async for part in self:
            parts.append(part)
            size += len(part)
            if size > max_body:
                raise ReplyTooLarge(f"a reply of more than {max_body} bytes, which is the limit")
        return Response(self.status, self.fields, b"".join(parts))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._is_whole:
                raise StopAsyncIteration
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        part = self._parts.popleft()
        self._count(self._unread - len(part))
        if self._unread < _LOW_WATER and self._connection is not None:
            self._connection.resume()
        return part

    # -- for the connection --------------------------------------------------------------------------------------------

    def carried_by(self, connection: Http1Connection) -> None:
        self._connection = connection

    def begin(self, status: int, fields: RawFields) -> None:
        self.status = status
        self.fields = fields
        if not self.begun.done():
            self.begun.set_result(None)

    def expect(self, length: int, connection: Http1Connection) -> RpcError | None:  # noqa: ARG002 - a stream may be of any length
        return None

    def add(self, body: bytes) -> RpcError | None:
        try:
            self._count(self._unread + len(body))
        except BuffersFull as error:
            return error
        self._parts.append(body)
        self.received += len(body)
        if self._connection is not None and (self._unread > HIGH_WATER or self._is_short):
            self._connection.pause()
        self._wake()
        return None

    def end(self) -> bool:
        self._is_whole = True
        self._connection = None
        self._wake()
        return not self.begun.cancelled()

    def fail(self, error: RpcError) -> None:
        self._error = error
        self._connection = None
        if not self.begun.done():
            self.begun.set_exception(error)
        self._wake()

    @property
    def _is_short(self) -> bool:
        """Whether the buffers have no room for as much as usually waits."""
        return self._held is not None and self._held.room < HIGH_WATER

    def _count(self, unread: int) -> None:
        """Count `unread` bytes among those that the bridge holds. Raises BuffersFull."""
        if self._held is not None:
            self._held.become(unread if unread > SMALL else 0)
        self._unread = unread

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
