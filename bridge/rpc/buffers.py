"""Counts and bounds the bytes that one process holds for calls, in one place.

Code that wants to keep bytes for a call first asks the call's Account for room. The end of the call gives everything
back in one step, so that no path can forget a part of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Protocol

from bridge.rpc.errors import BuffersFull
from bridge.rpc.metadata import Metadata

ROOM_WAIT = 10.0
"""Seconds that a reply which does not fit the buffers waits for room."""

CALL_COST = 8 << 10
"""Bytes that each open call counts for: its objects, its usual metadata, and messages up to SMALL in every form they
take.
"""

SMALL = 1 << 10
"""Bytes of a request or a reply that CALL_COST covers."""


SMALL_ACCOUNT = 64 << 10
"""An account that holds no more than this may use all of the buffers. A larger one leaves the last part free for small
ones.
"""

_KEPT_FREE = 8
"""An eighth of the buffers is kept free of large accounts, so that small calls always find room."""

_KEPT_FROM_UNREAD = 16
"""A sixteenth of the buffers is kept free of replies that clients do not take. Such replies stay for minutes, and the
calls of other clients need room.
"""


_FIELD_COST = 128
"""Bytes that a field takes in addition to its name and value: two strings and their tuple."""

_USUAL_FIELDS = 4 << 10
"""Bytes of fields that CALL_COST covers."""


def cost_of_fields(fields: Metadata) -> int:
    """Return the bytes that these fields take beyond those that CALL_COST covers."""
    size = sum(map(len, chain.from_iterable(fields))) + _FIELD_COST * len(fields)
    return max(0, size - _USUAL_FIELDS)


class Buffers:
    """The bytes that the process holds for calls, and their limit."""

    __slots__ = (
        "_beyond",
        "_beyond_size",
        "_freed",
        "_queue",
        "call_cost",
        "covered",
        "for_large",
        "for_unread",
        "held",
        "is_awaited",
        "limit",
        "much_for_one",
        "room_wait",
    )

    def __init__(
        self, limit: int, *, call_cost: int = CALL_COST, covered: int = SMALL, room_wait: float = ROOM_WAIT
    ) -> None:
        """`limit`: bytes, the configuration's `buffers`; `call_cost`: bytes that an open call counts for; `covered`:
        bytes of its request that are among them; `room_wait`: see ROOM_WAIT.
        """
        self.limit = limit
        self.call_cost = call_cost
        self.covered = covered
        self.room_wait = room_wait
        self.held = 0
        """Bytes. Only calls and accounts change it."""
        self.for_large = limit - limit // _KEPT_FREE
        """Bytes up to which large accounts may fill the buffers."""
        self.for_unread = limit - limit // _KEPT_FROM_UNREAD
        """Bytes up to which replies that clients do not take may fill the buffers."""
        self.much_for_one = min(SMALL_ACCOUNT, limit // _KEPT_FREE)
        """Bytes of unread replies that each client may have, even when there is no more room for unread replies."""
        self._queue: deque[WaitingForRoom] = deque()
        self._beyond: Account | None = None
        """The account that may exceed the bound, and (below) by how many bytes. They keep no small call out."""
        self._beyond_size = 0
        self.is_awaited = False
        """Whether a waiter needs room."""
        self._freed: Callable[[], bool] | None = None

    @property
    def is_full(self) -> bool:
        """Whether there is no room for one more call. It is never full while `held` is below `limit`."""
        return self.held - self._let_beyond >= self.limit

    @property
    def _let_beyond(self) -> int:
        beyond = self._beyond
        if beyond is None or not beyond.held:
            return 0
        return min(self._beyond_size, beyond.held)

    def room(self, held: int) -> int:
        """Return the bytes that an account may still take if it holds `held` bytes already. Never below 0."""
        room = max(0, self.for_large - self.held)
        if held >= SMALL_ACCOUNT:
            return room
        return max(room, min(SMALL_ACCOUNT - held, self.limit - self.held + self._let_beyond), 0)

    def take(self, size: int, *, held: int) -> None:
        """Count so many bytes more for an account that holds `held`. Raises BuffersFull, and then counts nothing."""
        if size > self.room(held):
            raise self.full(size)
        self.held += size

    def add(self, size: int) -> None:
        """Count so many bytes more, even if they do not fit."""
        self.held += size

    def begin_call(self) -> int:
        """Count an open call, even if it does not fit. Returns its bytes."""
        self.held += self.call_cost
        return self.call_cost

    def give_back(self, size: int) -> None:
        """Stop counting these bytes, and serve those that wait."""
        self.held -= size
        if self.is_awaited:
            self.tell_freed()

    def wait(self, account: Account, size: int, granted: Callable[[], None]) -> WaitingForRoom:
        """Hold so many bytes for the account as soon as there is room, then call `granted`. Who comes first is served
        first.

        Accounts that wait hold bytes already, so they could wait for each other for ever. Therefore one account at a
        time gets its room even if it does not fit. Call `tell_freed` next.
        """
        waiting = WaitingForRoom(account, size, granted)
        self._queue.append(waiting)
        self.is_awaited = True
        return waiting

    def when_freed(self, told: Callable[[], bool]) -> None:
        """Call `told` when something is given back while `is_awaited` is set, behind those that `wait`. It says whether
        to call again.
        """
        self._freed = told

    def tell_freed(self) -> None:
        """Serve those that wait, because something has been given back."""
        queue = self._queue
        while queue:
            first = queue[0]
            if not first.is_over:
                if first.size > self.room(first.account.held):
                    if self._beyond is not None and self._beyond.held:
                        break
                    self._beyond, self._beyond_size = first.account, first.size
                first.account.hold_anyway(first.size)
            queue.popleft()
            if not first.is_over:
                first.is_over = True
                first.granted()
        is_awaited = self._freed is not None and self._freed()
        self.is_awaited = is_awaited or bool(queue)

    def full(self, size: int) -> BuffersFull:
        """Return the error for bytes that do not fit."""
        return BuffersFull(
            f"the bridge has no room for {size} bytes more: all calls together may hold {self.limit} bytes (buffers);"
            " try again later"
        )


class Account(Protocol):
    """The bytes held for one call. The owner gives everything back at the call's end."""

    buffers: Buffers
    held: int
    """Bytes."""

    @property
    def room(self) -> int:
        """Bytes that `hold` would take now."""
        ...

    def hold(self, size: int) -> None:
        """Count this many bytes more; call it before they are kept. Raises BuffersFull; then nothing was counted."""
        ...

    def hold_anyway(self, size: int) -> None:
        """Count bytes that are already held, even if they do not fit."""
        ...

    def let_go(self, size: int) -> None:
        """Stop counting these bytes."""
        ...


class WaitingForRoom:
    """An account that waits for room (`Buffers.wait`)."""

    __slots__ = ("account", "granted", "is_over", "size")

    def __init__(self, account: Account, size: int, granted: Callable[[], None]) -> None:
        self.account = account
        self.size = size
        self.granted = granted
        self.is_over = False
        """Whether the room was granted or is not wanted any more. Set it to give up; then no bytes are counted."""


class Holding:
    """The methods of an Account, for a class that has its fields `buffers` and `held`."""

    __slots__ = ()

    @property
    def room(self: Account) -> int:
        return self.buffers.room(self.held)

    def hold(self: Account, size: int) -> None:
        self.buffers.take(size, held=self.held)
        self.held += size

    def hold_anyway(self: Account, size: int) -> None:
        self.buffers.add(size)
        self.held += size

    def let_go(self: Account, size: int) -> None:
        self.held -= size
        self.buffers.give_back(size)

    def close(self: Account) -> None:
        """Give back all that is held."""
        buffers = self.buffers
        buffers.held -= self.held  # as give_back does
        self.held = 0
        if buffers.is_awaited:
            buffers.tell_freed()


class OpenAccount(Holding):
    """An account that its owner closes."""

    __slots__ = ("buffers", "held")

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self.held = 0


class Level:
    """Bytes that the process holds for no single call, such as a connection's. They count even if they do not fit."""

    __slots__ = ("_buffers", "size")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.size = 0
        """Bytes, as counted."""

    def become(self, size: int) -> None:
        """Change the size that is counted, even if it does not fit."""
        buffers, before = self._buffers, self.size
        self.size = size
        buffers.held += size - before
        if size < before and buffers.is_awaited:
            buffers.tell_freed()


class Portion:
    """A part of what an account holds that grows and shrinks, such as a queue. It is told each new size."""

    __slots__ = ("_account", "size")

    def __init__(self, account: Account) -> None:
        self._account = account
        self.size = 0
        """Bytes, as counted."""

    @property
    def room(self) -> int:
        """Bytes by which it may grow now."""
        return self._account.room

    def become(self, size: int) -> None:
        """Change the size that is counted. Raises BuffersFull; then the former size stays counted."""
        grown = size - self.size
        if grown > 0:
            self._account.hold(grown)
        elif grown:
            self._account.let_go(-grown)
        self.size = size
