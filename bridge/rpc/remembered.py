"""Things that are made once and used again, within bounds.

Clients often choose the keys. So a large key is not kept, and a full memory is emptied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")


class Remembered(dict[_Key, _Made]):
    """A dict that makes what it does not have. Reading it costs no more than reading a dict."""

    __slots__ = ("_largest", "_make", "_most", "_size_of")

    def __init__(
        self, make: Callable[[_Key], _Made], *, most: int, largest: int, size_of: Callable[[_Key], int]
    ) -> None:
        """`make`: makes the value for a key. `most`: entries. `largest`: bytes of a key that is kept, as `size_of`
        counts them.
        """
        super().__init__()
        self._make = make
        self._most = most
        self._largest = largest
        self._size_of = size_of

    def __missing__(self, key: _Key) -> _Made:
        made = self._make(key)
        if self._size_of(key) <= self._largest:
            if len(self) >= self._most:
                self.clear()
            self[key] = made
        return made
