"""The order of waiting calls: tenants take turns, within a tenant connections, within a connection first in, first out.

A connection with a thousand waiting calls delays the call of another one by a single turn. When the queue is full, the
one with the most waiting calls gives up its newest for the call of one that has fewer.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A call that waits."""

    @property
    def tenant(self) -> Hashable: ...

    @property
    def connection(self) -> Hashable: ...

    @property
    def arrived(self) -> float:
        """When the call began. Calls that come back are ordered by it."""
        ...


WaitingType = TypeVar("WaitingType", bound=Waiting)

IsBlocked = Callable[[Hashable], bool]

_arrived = attrgetter("arrived")


class Turns(Generic[WaitingType]):
    """The waiting calls of one target."""

    def __init__(self) -> None:
        self._tenants: _Group[WaitingType] = _Group(2)

    def __len__(self) -> int:
        return len(self._tenants)

    @property
    def tenants(self) -> Sequence[Hashable]:
        """Those with waiting calls. The one whose turn is next comes first."""
        return tuple(self._tenants.members)

    def add(self, waiting: WaitingType) -> None:
        """Let the call wait behind the others of its connection."""
        self._tenants.add(waiting, (waiting.tenant, waiting.connection))

    def put_back(self, waiting: WaitingType) -> None:
        """Let a call wait again that had its turn and was throttled. It waits before all of its connection that began
        later, and the turn is its connection's again.
        """
        self._tenants.put_back(waiting, (waiting.tenant, waiting.connection))

    def remove(self, waiting: WaitingType) -> None:
        """Take out a call that no longer waits."""
        self._tenants.remove(waiting, (waiting.tenant, waiting.connection))

    def take(self, is_blocked: IsBlocked | None = None) -> WaitingType | None:
        """Take out the call whose turn it is. Tenants that are blocked keep their turn for later. None: all are."""
        return self._tenants.take(is_blocked)

    def to_evict(self, tenant: Hashable, connection: Hashable) -> WaitingType | None:
        """Return the waiting call that makes room for a new one of this connection in a full queue.

        None: the new call's tenant and connection have as many waiting calls as any other.
        """
        return self._tenants.to_evict((tenant, connection))

    def ahead_of(self, tenant: Hashable, connection: Hashable) -> int:
        """How many waiting calls have their turn before a new call of this connection, at least."""
        return self._tenants.ahead_of((tenant, connection))


_Path = tuple[Hashable, ...]


class _Lane(Generic[WaitingType]):
    """The waiting calls of one connection."""

    __slots__ = ("_fresh", "_returned")

    def __init__(self) -> None:
        self._returned: list[WaitingType] = []
        """Those that had a turn already, by the time when they began."""
        self._fresh: OrderedDict[WaitingType, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._returned) + len(self._fresh)

    def add(self, waiting: WaitingType, _path: _Path) -> None:
        self._fresh[waiting] = None

    def put_back(self, waiting: WaitingType, _path: _Path) -> None:
        insort(self._returned, waiting, key=_arrived)

    def remove(self, waiting: WaitingType, _path: _Path) -> None:
        if waiting in self._fresh:
            del self._fresh[waiting]
        else:
            self._returned.remove(waiting)

    def take(self, _is_blocked: IsBlocked | None = None) -> WaitingType:
        return self._returned.pop(0) if self._returned else self._fresh.popitem(last=False)[0]

    def newest(self) -> WaitingType:
        return next(reversed(self._fresh)) if self._fresh else self._returned[-1]

    def to_evict(self, _path: _Path) -> WaitingType | None:
        return None

    def ahead_of(self, _path: _Path) -> int:
        return len(self)


class _Group(Generic[WaitingType]):
    """Members that take turns: tenants with their connections, or connections with their calls."""

    __slots__ = ("_depth", "_length", "_sizes", "members")

    def __init__(self, depth: int) -> None:
        """`depth`: how many levels of turns are below, this one included."""
        self._depth = depth
        self._length = 0
        self._sizes = _Sizes()
        self.members: OrderedDict[Hashable, _Group[WaitingType] | _Lane[WaitingType]] = OrderedDict()
        """In the order of their turns. None is empty."""

    def __len__(self) -> int:
        return self._length

    def add(self, waiting: WaitingType, path: _Path) -> None:
        self._member(path[0]).add(waiting, path[1:])
        self._grew(path[0])

    def put_back(self, waiting: WaitingType, path: _Path) -> None:
        self._member(path[0]).put_back(waiting, path[1:])
        self._grew(path[0])
        self.members.move_to_end(path[0], last=False)

    def remove(self, waiting: WaitingType, path: _Path) -> None:
        self.members[path[0]].remove(waiting, path[1:])
        self._shrank(path[0])

    def take(self, is_blocked: IsBlocked | None = None) -> WaitingType | None:
        for key, member in self.members.items():
            if is_blocked is None or not is_blocked(key):
                found = member.take()
                if self._shrank(key):
                    self.members.move_to_end(key)
                return found
        return None

    def newest(self) -> WaitingType:
        """Of the member with the most."""
        return self.members[self._sizes.key_of_largest].newest()

    def to_evict(self, path: _Path) -> WaitingType | None:
        own = self.members.get(path[0])
        if not self.members:
            return None
        if self._sizes.largest > (len(own) if own else 0) + 1:
            return self.newest()
        return own.to_evict(path[1:]) if own else None

    def ahead_of(self, path: _Path) -> int:
        own = self.members.get(path[0])
        if own is None:
            return len(self.members)
        before = own.ahead_of(path[1:])
        return before + self._sizes.sum_up_to(before) - min(len(own), before)

    def _member(self, key: Hashable) -> _Group[WaitingType] | _Lane[WaitingType]:
        found = self.members.get(key)
        if found is None:
            found = self.members[key] = _Group(self._depth - 1) if self._depth > 1 else _Lane()
        return found

    def _grew(self, key: Hashable) -> None:
        size = len(self.members[key])
        self._length += 1
        self._sizes.move(key, size - 1, size)

    def _shrank(self, key: Hashable) -> bool:
        """Whether the member has anything left."""
        size = len(self.members[key])
        self._length -= 1
        self._sizes.move(key, size + 1, size)
        if not size:
            del self.members[key]
        return size > 0


class _Sizes:
    """Members by their size, which changes by one at a time. The largest is known at once, however many there are."""

    __slots__ = ("_keys", "largest")

    def __init__(self) -> None:
        self._keys: dict[int, OrderedDict[Hashable, None]] = {}
        self.largest = 0
        """A size."""

    @property
    def key_of_largest(self) -> Hashable:
        return next(iter(self._keys[self.largest]))

    def move(self, key: Hashable, before: int, after: int) -> None:
        """0: not there."""
        if before:
            del self._keys[before][key]
            if not self._keys[before]:
                del self._keys[before]
        if after:
            self._keys.setdefault(after, OrderedDict())[key] = None
        if after > self.largest or self.largest not in self._keys:
            self.largest = after

    def sum_up_to(self, most: int) -> int:
        """Return the sum of all sizes, each counted up to `most`."""
        return sum(len(keys) * min(size, most) for size, keys in self._keys.items())
