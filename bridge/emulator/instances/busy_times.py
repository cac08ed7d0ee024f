"""Tells the files that functions write from those that their authors save.

The system does not say who wrote a file. So a file that changed while a function ran is taken for the function's, if it
is new or if it is no code.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from bridge.emulator.instances.source_tree import FileChange

_REMEMBERED = 1000
"""Times at most."""
_BEFORE = 0.05
"""Seconds that the time of a file may lie before the moment of the write: the kernel's coarse clock."""
_GONE = 1.0
"""Seconds in which the end of a file is noticed, because a file that is gone has no time."""


class BusyTimes:
    """When invocations were in flight, on the wall clock, because files have times of the wall clock."""

    def __init__(self) -> None:
        self._running = 0
        self._since = 0.0
        self._past: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def begin(self) -> None:
        """Take note that an invocation begins."""
        if not self._running:
            self._since = _now()
            if self._past and self._since - self._past[-1][1] < _BEFORE:  # so that a thousand times are enough
                self._since, _ = self._past.pop()
        self._running += 1

    def end(self) -> None:
        """Take note that an invocation is over."""
        self._running -= 1
        if not self._running:
            self._past.append((self._since, _now()))

    def had(self, moment: float | None) -> bool:
        """Whether an invocation was in flight at this Unix time. None: whether one was a moment ago."""
        now = _now()
        at, late = (now, _GONE) if moment is None else (moment, 0.0)
        times = [*self._past, (self._since, now)] if self._running else self._past
        return any(begun - _BEFORE <= at <= ended + late for begun, ended in times)


class WrittenFiles:
    """Remembers which files functions have written."""

    def __init__(self) -> None:
        self._known: set[Path] = set()
        """Bounded by the number of files that are followed."""

    def without(
        self, changes: Iterable[FileChange], folder: Path, running: Iterable[tuple[Path, BusyTimes]]
    ) -> list[FileChange]:
        """Return the changes in a folder that its authors made. `running`: functions' folders, and when they ran."""
        known = list(running)
        return [change for change in changes if not self._is_written(change, folder / change.name, known)]

    def _is_written(self, change: FileChange, path: Path, running: Iterable[tuple[Path, BusyTimes]]) -> bool:
        may_be = change.is_new or not change.is_code or path in self._known
        if not may_be or not any(path.is_relative_to(code) and busy.had(change.changed_at) for code, busy in running):
            self._known.discard(path)
            return False
        self._known.add(path)
        return True


def _now() -> float:
    return time.time()  # noqa: TID251 - compared with the times of files
