"""Tells when the content of the configuration, or of a file that it names, has changed: for `serve --watch`.

It reads the files again and again, and compares. So links over links count by what they lead to (Kubernetes swaps
`..data`), network file systems work, and other files in the same folder cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path

from bridge.services.proto_folder import proto_files

INTERVAL = 0.5
"""Seconds between two looks."""
_REST = 50
"""Each look is followed by a rest of so many times its processor time: large folders of .proto take 2 % of a core at
most.
"""
_SETTLING = 0.1
"""Seconds in which files must stay as they are: an editor may be about to write the second half."""
_SETTLING_GONE = 0.3
"""The same if a file is gone: some editors move the old file away first."""
_MOST_LOOKS = 20
_LARGEST = 64 << 20
"""Bytes of a file whose content is compared. A larger file has changed if its time or size has."""

_Stamp = tuple[int, int, int, int]
_Contents = dict[Path, bytes]
"""A digest of each file. Empty: it cannot be read."""

_logger = logging.getLogger(__name__)


class ConfigWatch:
    """Follows the files that it was last told to follow."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Read them for the first time. It blocks."""
        self._files = frozenset(files)
        self._digests: dict[Path, tuple[_Stamp, bytes]] = {}
        """Of files that were read: how they looked, and what was in them."""
        self._worked = 0.0
        """Seconds of processor time since the last rest."""
        self._looking = asyncio.Lock()
        self._known = self._look(self._files)

    async def follow(self, files: Iterable[Path]) -> None:
        """Follow these files from now on, and no others. New ones count as they are now."""
        self._files = frozenset(files)
        async with self._looking:
            now = await asyncio.to_thread(self._look, self._files)
            self._known = {file: self._known.get(file, now[file]) for file in self._files}

    async def run(self, changed: Callable[[], None], *, interval: float = INTERVAL) -> None:
        """Call `changed` after each change, for ever. Several files that change together are one change."""
        while True:
            async with self._looking:
                names = await self._changes()
            if names:
                _logger.info("%s changed: reading the configuration again", ", ".join(names))
                changed()
            rest, self._worked = _REST * self._worked, 0.0
            await asyncio.sleep(max(interval, rest))

    async def _changes(self) -> list[str]:
        """Return the files that have changed since the last time, once they stay as they are."""
        files = self._files
        now = await asyncio.to_thread(self._look, files)
        former = {file: self._known.get(file, now[file]) for file in files}
        for _ in range(_MOST_LOOKS):
            if now == former:
                break
            await asyncio.sleep(_SETTLING if all(now.values()) else _SETTLING_GONE)
            before, now = now, await asyncio.to_thread(self._look, files)
            if before == now:
                break
        self._known = now
        return sorted(str(file) for file in files if former[file] != now[file])

    # -- in a thread --

    def _look(self, files: Iterable[Path]) -> _Contents:
        began = time.thread_time()
        digests: dict[Path, tuple[_Stamp, bytes]] = {}
        found = {}
        for file in files:
            try:
                members = proto_files(file) if file.is_dir() else [file]
                whole = blake2b()
                for member in sorted(members):
                    digests[member] = _read(member, self._digests.get(member))
                    whole.update(os.fsencode(member) + b"\0" + digests[member][1])
                found[file] = whole.digest()
            except OSError:
                found[file] = b""
        self._digests = digests
        self._worked += time.thread_time() - began
        return found


def _read(file: Path, former: tuple[_Stamp, bytes] | None) -> tuple[_Stamp, bytes]:
    """Return how a file looks, and a digest of its content, which is read if it looks different. Raises OSError."""
    seen = file.stat()
    stamp = seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
    if former is not None and former[0] == stamp:
        return former
    if seen.st_size > _LARGEST:
        return stamp, repr(stamp[1:3]).encode()
    return stamp, blake2b(file.read_bytes()).digest()
