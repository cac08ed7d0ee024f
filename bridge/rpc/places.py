"""The calls that one target takes at a time, and how connections share them where they run short.

A connection may take all places while nobody else wants one. If no place is free and a connection below its fair share
is refused, the next free place is kept for it. Connections at or above
their share are then refused, until it has come back or WANTED_FOR is over.
Calls in their places are never ended for it. Whoever shares is a connection and not a peer: many clients stand behind
one load balancer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Protocol

WANTED_FOR = 5.0
"""Seconds for which a place is kept for a connection that was refused: its client comes back within its backoff."""

_PLENTY = 4
"""Once one part in so many of the places is free, nobody needs to count who has how many."""


class Placed(Protocol):
    """A call, as far as places go."""

    @property
    def connection(self) -> Hashable:
        """The same for all calls of one connection."""
        ...


class Places:
    """Belongs to one target. Adding a call to `calls` takes a place, taking it out frees it; see layers/admit.py."""

    __slots__ = ("_counts", "_wanted", "calls", "is_short")

    def __init__(self) -> None:
        self.calls: set[Placed] = set()
        """Those that have a place."""
        self.is_short = False
        """Whether places are counted by connection: then `ask` comes before a call is added, and `freed` after it was
        taken out.
        """
        self._counts: Counter[Hashable] = Counter()
        """By connection, while places are short."""
        self._wanted: dict[Hashable, float] = {}
        """Connections below their share that were refused, and until when a place is kept for them."""

    def ask(self, connection: Hashable, limit: int, *, now: float) -> bool:
        """Whether the connection may take one of `limit` places; if so it must. `now`: monotonic seconds."""
        counts = self._counts
        if not self.is_short:
            self.is_short = True
            counts.update(call.connection for call in self.calls)
        if self._wanted:
            self._wanted = {who: until for who, until in self._wanted.items() if until > now}
        wanted = self._wanted
        free = limit - len(self.calls)
        kept = len(wanted) - (connection in wanted)
        if free <= kept:
            is_below_share = self._is_below_share(connection, limit)
            if free <= 0 or not is_below_share:
                if is_below_share and len(wanted) < limit:
                    wanted[connection] = now + WANTED_FOR
                return False
        wanted.pop(connection, None)
        counts[connection] += 1
        return True

    def _is_below_share(self, connection: Hashable, limit: int) -> bool:
        """Return whether the connection has less than its share, which is the places divided by the connections that
        have any or want one.
        """
        sharing = len(self._counts.keys() | self._wanted.keys() | {connection})
        return self._counts[connection] * sharing < limit

    def freed(self, connection: Hashable, limit: int) -> None:
        """Take note that a call of this connection was taken out."""
        counts = self._counts
        counts[connection] -= 1
        if counts[connection] <= 0:
            del counts[connection]
        if not self._wanted and len(self.calls) < limit - limit // _PLENTY:
            self.is_short = False
            counts.clear()
