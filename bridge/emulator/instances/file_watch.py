"""Tells when files change below some folders: for `reload: true`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

LOOKED_AFTER = 1.0
"""Seconds between two looks whether the folders are still those that are watched."""
DEBOUNCE_MS = 200
"""An editor or compiler writes several files; what comes within this time is one change."""

_logger = logging.getLogger(__name__)


class _Sources(DefaultFilter):
    """Leaves out what no source is. A log must not count: the line that tells of a change would be the next change."""

    def __init__(self) -> None:
        super().__init__()
        self._ours = {os.path.realpath(f"/proc/self/fd/{number}") for number in (1, 2)}

    def __call__(self, change: Change, path: str) -> bool:
        return super().__call__(change, path) and not path.endswith(".log") and path not in self._ours


class FileWatch:
    """Follows one set of folders at a time. Caches, virtual environments, .git and logs do not count."""

    def __init__(self, on_change: Callable[[set[Path]], None], *, looked_after: float = LOOKED_AFTER) -> None:
        """`looked_after`: seconds, see LOOKED_AFTER."""
        self._looked_after = looked_after
        self._on_change = on_change
        self._folders: frozenset[Path] = frozenset()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, folders: AbstractSet[Path]) -> None:
        """Watch these folders and no others. One that is not there, or is removed, counts again when it comes."""
        wanted = frozenset(folders)
        if wanted == self._folders:
            return
        await self.close()
        self._folders = wanted
        if wanted:
            self._stop = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._watch(wanted, _identities(wanted), self._stop))

    async def close(self) -> None:
        self._folders = frozenset()
        task, self._task = self._task, None
        if task is not None:
            self._stop.set()
            await asyncio.wait([task])

    async def _watch(self, folders: frozenset[Path], there: dict[Path, int], stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self._watch_until_replaced(folders, there, stop)
                before, there = there, _identities(folders)
                if new := {folder for folder in there if there[folder] != before.get(folder)}:
                    self._on_change(new)
        except Exception:
            # The outermost frame of the task.
            _logger.exception("changes of files are no longer followed")

    async def _watch_until_replaced(
        self, folders: frozenset[Path], there: dict[Path, int], stop: asyncio.Event
    ) -> None:
        """Watch until the folder is replaced. A build may remove its folder and make it anew; a watch on the old one
        would see nothing.
        """
        if not there:
            await _soon(stop, self._looked_after)
            return
        watching = awatch(
            *there,
            watch_filter=_Sources(),
            debounce=DEBOUNCE_MS,
            stop_event=stop,
            rust_timeout=int(self._looked_after * 1000),
            yield_on_timeout=True,
        )
        try:
            async for changes in watching:
                changed = {Path(path) for _, path in changes}
                named = {f for f in there if any(path.is_relative_to(f) for path in changed)}
                if named:
                    self._on_change(named)
                if _identities(folders) != there:
                    return
        except FileNotFoundError:  # gone since we looked
            await _soon(stop, self._looked_after)


def _identities(folders: Iterable[Path]) -> dict[Path, int]:
    """Return the folders that are there, each with its inode."""
    found = {}
    for folder in folders:
        try:
            if folder.is_dir():
                found[folder] = folder.stat().st_ino
        except OSError:
            continue
    return found


async def _soon(stop: asyncio.Event, seconds: float) -> None:
    """Return after so long, or when `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
