"""Tells when source files change below some folders: for `reload: true`.

The kernel says that something happened. Then the folder is looked at until it stays as it is, because editors save in
several steps, and what differs from the last time is told once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, awatch

from bridge.config.schema import Reload
from bridge.emulator.instances.source_tree import FileChange, SourceSnapshot, SourceTree, changes
from bridge.source_files import kinds

LOOKED_AFTER = 1.0
"""Seconds between two looks whether the folders are still those that are watched."""
DEBOUNCE_MS = 200
"""An editor or compiler writes several files; what comes within this time is one change."""
_SETTLING = 0.1
"""Seconds that a folder must stay as it is."""
_SETTLING_GONE = 0.3
"""The same if a file is gone: some editors move the old file away first."""
_MOST_LOOKS = 20
"""A folder that never stays as it is shall not put off the change for ever."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Followed:
    """A folder, and which of its files count."""

    folder: Path
    rules: Reload


OnChange = Callable[[Followed, list[FileChange]], None]


class FileWatch:
    """Follows one set of folders at a time. `on_change` gets what differs. The list is empty if a folder has been made
    anew with the same files in it.
    """

    def __init__(self, on_change: OnChange, *, looked_after: float = LOOKED_AFTER) -> None:
        """`looked_after`: seconds, see LOOKED_AFTER."""
        self._looked_after = looked_after
        self._on_change = on_change
        self._followed: frozenset[Followed] = frozenset()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, followed: AbstractSet[Followed]) -> None:
        """Watch these folders and no others. One that is not there, or is removed, counts again when it comes."""
        wanted = frozenset(followed)
        if wanted == self._followed:
            return
        await self.close()
        self._followed = wanted
        if wanted:
            trees = [_Tree(each, self._on_change) for each in wanted]
            there = _identities(wanted)
            for tree in trees:
                await tree.begin()
            self._stop = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._watch(trees, there, self._stop))

    async def close(self) -> None:
        self._followed = frozenset()
        task, self._task = self._task, None
        if task is not None:
            self._stop.set()
            await asyncio.wait([task])

    async def _watch(self, trees: list[_Tree], there: dict[Path, int], stop: asyncio.Event) -> None:
        followed = [tree.followed for tree in trees]
        try:
            while not stop.is_set():
                await self._watch_until_replaced(trees, there, stop)
                before, there = there, _identities(followed)
                for tree in trees:
                    folder = tree.followed.folder
                    if folder in there and there[folder] != before.get(folder):
                        await tree.look(is_anew=True)
        except Exception:
            # The outermost frame of the task.
            _logger.exception("changes of files are no longer followed")

    async def _watch_until_replaced(self, trees: list[_Tree], there: dict[Path, int], stop: asyncio.Event) -> None:
        """Watch until the folder is replaced. A build may remove its folder and make it anew; a watch on the old one
        would see nothing.
        """
        followed = [tree.followed for tree in trees]
        if not there:
            await _soon(stop, self._looked_after)
            return
        watching = awatch(
            *there,
            watch_filter=_Filter(followed),
            debounce=DEBOUNCE_MS,
            stop_event=stop,
            rust_timeout=int(self._looked_after * 1000),
            yield_on_timeout=True,
        )
        unseen = True
        """Whether something may have changed before the kernel was asked."""
        try:
            async for changed in watching:
                if _identities(followed) != there:
                    return
                for tree in trees:
                    if unseen or any(Path(path).is_relative_to(tree.followed.folder) for _, path in changed):
                        await tree.look()
                unseen = False
        except FileNotFoundError:  # gone since we looked
            await _soon(stop, self._looked_after)


class _Tree:
    """A followed folder, and how its files were when they were last told of."""

    def __init__(self, followed: Followed, on_change: OnChange) -> None:
        self.followed = followed
        self._tree = SourceTree(followed.folder, followed.rules)
        self._on_change = on_change
        self._told: SourceSnapshot = {}

    async def begin(self) -> None:
        """Look for the first time."""
        self._told = await self._look(self._told)

    async def look(self, *, is_anew: bool = False) -> None:
        """Tell what has changed, once the folder stays as it is. `is_anew`: the folder is another one."""
        former, now = self._told, await self._look(self._told)
        for _ in range(_MOST_LOOKS):
            differs = changes(former, now)
            if not differs:
                break
            gone = any(change.changed_at is None for change in differs)
            await asyncio.sleep(_SETTLING_GONE if gone else _SETTLING)
            before, now = now, await self._look(now)
            if before == now:
                break
        self._told = now
        if (found := changes(former, now)) or is_anew:
            self._on_change(self.followed, found)

    async def _look(self, former: SourceSnapshot) -> SourceSnapshot:
        return await asyncio.to_thread(self._tree.look, former)


class _Filter:
    """Leaves out early what no source is. Our own output must not count, whatever its name: the line that tells of a
    change would be the next change.
    """

    def __init__(self, followed: Iterable[Followed]) -> None:
        self._ours = {os.path.realpath(f"/proc/self/fd/{number}") for number in (1, 2)}
        self._followed = list(followed)

    def __call__(self, change: Change, path: str) -> bool:  # noqa: ARG002 - watchfiles' signature
        return path not in self._ours and any(_may_count(Path(path), each) for each in self._followed)


def _may_count(path: Path, followed: Followed) -> bool:
    if not path.is_relative_to(followed.folder) or (path.suffix == ".log" and not followed.rules.include):
        return False
    *folders, _ = ("", *path.relative_to(followed.folder).parts)
    return not kinds.is_leftover(path.name) and not any(map(kinds.is_cache, folders))


def _identities(followed: Iterable[Followed]) -> dict[Path, int]:
    """Return the folders that are there, each with its inode."""
    found = {}
    for folder in {each.folder for each in followed}:
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
