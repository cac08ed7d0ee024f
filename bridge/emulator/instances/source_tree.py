"""Which files of a function's folder are its source, and which of them have changed.

`.gitignore` holds, but generated code counts all the same. Virtual environments, caches, logs and what editors leave
behind never count, nor does the file that our own output goes to. A file has changed if its content has: one that is
only touched, or saved as it was, has not. It does not know who changed a file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from bridge.config.schema import Reload
from bridge.source_files import kinds
from bridge.source_files.ignore_rules import IgnoreRules
from bridge.source_files.patterns import FilePatterns

MAX_SOURCE_FILES = 20_000
"""Files of one folder that are followed. Those found later are not."""
MAX_HASHED = 64 << 20
"""Bytes of a file whose content is compared. A larger file has changed if its size or its time has."""

_CODE = frozenset(
    (".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".proto", ".go", ".rs", ".rb", ".java", ".kt", ".so", ".wasm")
)
_EXECUTABLE = 0o100
_NEVER = ("*.log", "4913", "\\#*#", "*___jb_tmp___", "*___jb_old___", ".*.tmp")
"""Logs, and files that editors make for a moment while they save."""
_DEPENDENCIES = "node_modules"
_CACHE_MARK = "CACHEDIR.TAG"
"""https://bford.info/cachedir/: many tools put it into their caches, build folders among them."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when somebody looked."""

    content: bytes
    """A digest. Two files are the same if it is the same."""
    stamp: tuple[int, int, int, int] = field(compare=False)
    """Inode, size, time of the last write and of the last change, in nanoseconds."""
    is_code: bool = field(compare=False)
    """Whether it is written by people or compilers. Others may be data."""

    @property
    def changed_at(self) -> float:
        """Unix time of its last change. Unlike the time of the last write, nobody can set it."""
        return self.stamp[3] / 1e9


SourceSnapshot = dict[str, SourceFile]
"""By path, relative to the folder."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that is not as it was."""

    name: str
    """Its path, relative to the folder."""
    changed_at: float | None
    """Unix time; None if the file is gone."""
    is_code: bool
    is_new: bool


class SourceTree:
    """The source files below a folder, by the rules of one function."""

    def __init__(self, folder: Path, rules: Reload) -> None:
        self._folder = folder.absolute()
        self._has_include = bool(rules.include)
        self._include = FilePatterns(rules.include)
        self._exclude = FilePatterns(rules.exclude)
        self._never = FilePatterns(_NEVER)
        # A line that tells of a change would be the next change.
        self._ours = {identity for number in (1, 2) if (identity := _identity(number)) is not None}

    def look(self, former: SourceSnapshot) -> SourceSnapshot:
        """Return the files as they are now. Content is read only where `former` has another stamp.

        It reads the disk, so call it in a thread. A folder or file that cannot be read is left out.
        """
        found: SourceSnapshot = {}
        for name, entry in self._files():
            if len(found) >= MAX_SOURCE_FILES:
                break
            if (file := _read(entry, former.get(name), self._ours)) is not None:
                found[name] = file
        return found

    def _files(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        waiting = [(self._folder, "", IgnoreRules.of(self._folder), False)]
        while waiting:
            folder, prefix, rules, is_ignored = waiting.pop()
            for entry in _entries(folder):
                name, path = prefix + entry.name, folder / entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                is_out = is_ignored or rules.rule_for(path, is_folder=is_folder) is not None
                if not is_folder:
                    if self._counts(name, entry.name, is_ignored=is_out) and entry.is_file():
                        yield name, entry
                elif not self._is_pruned(path, name):
                    waiting.append((path, f"{name}/", rules if is_out else rules.within(path), is_out))

    def _counts(self, path: str, name: str, *, is_ignored: bool) -> bool:
        if kinds.is_leftover(name) or self._exclude.match(path):
            return False
        if self._has_include:
            return self._include.match(path) or kinds.is_generated(name)
        return kinds.is_generated(name) or not (is_ignored or self._never.match(name))

    def _is_pruned(self, path: Path, name: str) -> bool:
        """Whether nothing in this folder counts. An ignored folder may hold generated code."""
        if kinds.is_cache(path.name) or path.name == _DEPENDENCIES or kinds.is_virtual_environment(path):
            return True
        return self._exclude.match(f"{name}/") or (path / _CACHE_MARK).is_file()


def changes(former: SourceSnapshot, now: SourceSnapshot) -> list[FileChange]:
    """Return what differs, in the order of the names."""
    found = []
    for name in sorted(former.keys() | now.keys()):
        before, after = former.get(name), now.get(name)
        if before != after:
            known = after or before
            assert known is not None
            at = None if after is None else after.changed_at
            found.append(FileChange(name, at, is_code=known.is_code, is_new=before is None))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _read(
    entry: os.DirEntry[str], former: SourceFile | None, not_these: Collection[tuple[int, int]]
) -> SourceFile | None:
    """`not_these`: devices and inodes."""
    try:
        found = entry.stat()
        if (found.st_dev, found.st_ino) in not_these:
            return None
        stamp = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if former is not None and former.stamp == stamp:
            return former
        content = (
            repr(stamp[1:3]).encode() if found.st_size > MAX_HASHED else blake2b(Path(entry).read_bytes()).digest()
        )
    except OSError:
        return None
    is_code = Path(entry).suffix in _CODE or bool(found.st_mode & _EXECUTABLE)
    return SourceFile(content, stamp, is_code)
