"""What a package holds: its files by their paths in it, and their sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

_ROOT = "files of the function's own folder"
_DEPTH = 2
"""A folder at this depth is shown as a whole."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file of a package, before it is packed."""

    source: Path
    size: int
    is_program: bool
    """Whether it may be executed."""


Contents: TypeAlias = Mapping[str, PackedFile]
"""By path in the package, with slashes."""


def total_size(contents: Contents) -> int:
    return sum(file.size for file in contents.values())


def largest_folders(contents: Contents, count: int = 5) -> tuple[tuple[str, int], ...]:
    """Return folders with the bytes in them, the largest first. No folder is part of another one."""
    sizes: Counter[str] = Counter()
    for path, file in contents.items():
        parts = PurePosixPath(path).parts[:-1][:_DEPTH]
        sizes["/".join(parts) + "/" if parts else _ROOT] += file.size
    return tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:count])


def files_below(folder: Path) -> dict[str, PackedFile]:
    """Return all files of a folder that we made, in the order of their paths. Links in it do not count."""
    found: dict[str, PackedFile] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        status = path.stat()
        found[path.relative_to(folder).as_posix()] = PackedFile(path, status.st_size, bool(status.st_mode & 0o100))
    return found
