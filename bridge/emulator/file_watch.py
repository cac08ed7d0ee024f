"""Tells when files change below some folders: for `reload: true`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

from watchfiles import DefaultFilter, awatch

DEBOUNCE_MS = 200
"""An editor or compiler writes several files; what comes within this time is one change."""

_logger = logging.getLogger(__name__)


class FileWatch:
    """Follows one set of folders at a time. Caches, virtual environments and .git do not count."""

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
                *folders, watch_filter=DefaultFilter(), debounce=DEBOUNCE_MS, stop_event=stop
            ):
                changed = {Path(path) for _, path in changes}
                self._on_change(
                    {f for f in folders if any(path.is_relative_to(f) for path in changed)}
                )
        except Exception:
            # The outermost frame of the task.
            _logger.exception("changes of files are no longer followed")
