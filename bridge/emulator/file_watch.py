"""Tells when files change below some folders: for `reload: true`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

DEBOUNCE_MS = 200
"""An editor or compiler writes several files; what comes within this time is one change."""

_logger = logging.getLogger(__name__)


class _Sources(DefaultFilter):
    """Leaves out what no source is. A log must not count: the line that tells of a change would be the next change."""

    def __init__(self) -> None:
        super().__init__()
        self._ours = {os.path.realpath(f"/proc/self/fd/{number}") for number in (1, 2)}

    def __call__(self, change: Change, path: str) -> bool:
        return (
            super().__call__(change, path) and not path.endswith(".log") and path not in self._ours
        )


class FileWatch:
    """Follows one set of folders at a time. Caches, virtual environments, .git, logs and our own output do not count."""

    def __init__(self, on_change: Callable[[set[Path]], None]) -> None:
        self._on_change = on_change
        self._folders: frozenset[Path] = frozenset()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, folders: AbstractSet[Path]) -> None:
        """Watch these folders and no others. Those that do not exist are left out."""
        wanted = frozenset(folder for folder in folders if folder.is_dir())
        if wanted == self._folders:
            return
        await self.close()
        self._folders = wanted
        if wanted:
            self._stop = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._watch(wanted, self._stop))

    async def close(self) -> None:
        self._folders = frozenset()
        task, self._task = self._task, None
        if task is not None:
            self._stop.set()
            await asyncio.wait([task])

    async def _watch(self, folders: frozenset[Path], stop: asyncio.Event) -> None:
        try:
            async for changes in awatch(
                *folders, watch_filter=_Sources(), debounce=DEBOUNCE_MS, stop_event=stop
            ):
                changed = {Path(path) for _, path in changes}
                self._on_change(
                    {f for f in folders if any(path.is_relative_to(f) for path in changed)}
                )
        except Exception:
            # The outermost frame of the task.
            _logger.exception("changes of files are no longer followed")
