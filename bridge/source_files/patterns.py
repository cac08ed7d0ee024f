"""Patterns of files, as `.gitignore` writes them, for lists in the configuration."""

from __future__ import annotations

from collections.abc import Iterable

from pathspec import GitIgnoreSpec


class FilePatterns:
    """Some patterns. As in `.gitignore`, a later one goes before an earlier one, and `!` takes back."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raise ValueError for a text that is not a pattern, and for one that matches nothing."""
        lines = list(patterns)
        self._spec = GitIgnoreSpec.from_lines(lines)
        if any(pattern.include is None for pattern in self._spec.patterns):
            raise ValueError("a pattern that matches nothing")

    def match(self, path: str) -> bool:
        """Whether they match a path, relative to the folder they are for. That of a folder ends with a slash."""
        return self._spec.match_file(path)
