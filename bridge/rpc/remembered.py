"""Things that are made once and used again, within bounds.

Clients often choose the keys. So a large key is not kept, and a full memory is emptied: that costs less than knowing
which entry is the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Made = TypeVar("_Made")


class BoundedDict(dict[_Key, _Made]):
    """A dict with a bound. Put entries in with `remember`. Reading it costs no more than reading a dict."""

    __slots__ = ("_largest", "_most", "_size_of")

    def __init__(self, *, most: int, largest: int | None = None, size_of: Callable[[Any], int] = len) -> None:
        """`most`: entries. `largest`: bytes of a key that is kept, as `size_of` counts them. None: any key is kept."""
        super().__init__()
        self._most = most
        self._largest = largest
        self._size_of = size_of

    def remember(self, key: _Key, made: _Made) -> _Made:
        """Keep what was made for this key, if the bounds allow, and return it."""
        if self._largest is None or self._size_of(key) <= self._largest:
            if len(self) >= self._most and key not in self:
                self.clear()
            self[key] = made
        return made


class Remembered(BoundedDict[_Key, _Made]):
    """A dict that makes what it does not have."""

    __slots__ = ("_make",)

    def __init__(
        self,
        make: Callable[[_Key], _Made],
        *,
        most: int,
        largest: int | None = None,
        size_of: Callable[[Any], int] = len,
    ) -> None:
        """`make`: makes the value for a key. For the others see BoundedDict."""
        super().__init__(most=most, largest=largest, size_of=size_of)
        self._make = make

    def __missing__(self, key: _Key) -> _Made:
        return self.remember(key, self._make(key))
