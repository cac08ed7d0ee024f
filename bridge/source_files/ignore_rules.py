"""What git ignores: the `.gitignore` files from the top of the repository down, and `.git/info/exclude`.

Rules are asked from the top down, one folder at a time: nothing below an ignored folder can be taken back. The settings
of one user (core.excludesFile) do not count, because two authors must get the same answer. Neither does git's index: a
file that is ignored and tracked all the same is ignored here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pathspec.patterns.gitignore.base import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

_is_any_name = re.compile(r"!?(\*|/?(\*\*/)+\*)").fullmatch
"""Patterns that match every name at every depth."""

_MAX_BYTES = 1 << 20
"""Of one file of rules. The rest of a longer one does not count."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line that ignores files, or takes them back."""

    text: str
    file: Path
    line: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.text!r} in {self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Pattern:
    rule: Rule
    regex: re.Pattern[str]
    ignores: bool
    """False: it begins with `!`."""
    only_folders: bool
    takes_all: bool
    """Whether it ends in a `*` or `**` that stands for everything below a folder."""

    def matches(self, path: str, *, is_folder: bool) -> bool:
        if self.only_folders and not is_folder:
            return False
        found = self.regex.match(path)
        # The expression also matches what is below. That a folder is ignored is known before we look into it.
        return found is not None and (self.takes_all or found.end() == len(path))


@dataclass(frozen=True, slots=True)
class _Level:
    """The rules that one folder adds to those above it."""

    folder: Path
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in one folder. `of` reads those above it; `within` adds those of a folder in it."""

    levels: tuple[_Level, ...] = ()

    @staticmethod
    def of(folder: Path) -> IgnoreRules:
        """Read the rules that hold in a folder. Without a repository around it, only its own `.gitignore` counts."""
        folder = folder.absolute()
        top = _top_of_repository(folder)
        if top is None:
            return IgnoreRules().within(folder)
        rules = IgnoreRules((_level(top, _exclude_file(top)),))
        for above in (*reversed(folder.parents), folder):
            if above.is_relative_to(top):
                rules = rules.within(above)
        return rules

    def within(self, folder: Path) -> IgnoreRules:
        """Return the rules that hold in a folder in this one. Its path begins with the path that `of` was given."""
        level = _level(folder, folder / ".gitignore")
        return replace(self, levels=(*self.levels, level)) if level.patterns else self

    def rule_for(self, path: Path, *, is_folder: bool) -> Rule | None:
        """Return the rule that ignores this entry of the folder, or None. What ignores the folder does not count."""
        for level in reversed(self.levels):
            below = path.relative_to(level.folder).as_posix()
            for pattern in reversed(level.patterns):
                if pattern.matches(below, is_folder=is_folder):
                    return pattern.rule if pattern.ignores else None
        return None


def parse_rules(lines: Iterable[str], file: Path) -> Iterator[Pattern]:
    """Yield the patterns of a file of rules. Lines that git does not understand match nothing."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        text = text if text.endswith("\\ ") else text.rstrip(" ")
        bare = text.rstrip("/")
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of sets of characters such as [[]
                pattern = GitIgnoreSpecPattern(bare)
        except (GitIgnorePatternError, re.error):
            continue
        if pattern.regex is None or pattern.include is None:
            continue
        yield Pattern(
            Rule(text, file, number),
            pattern.regex,
            pattern.include,
            only_folders=bare != text,
            takes_all=bare.endswith("**") or _is_any_name(bare) is not None,
        )


def _level(folder: Path, file: Path) -> _Level:
    return _Level(folder, tuple(parse_rules(_lines_of(file), file)))


def _lines_of(file: Path) -> list[str]:
    """Return the lines of a file. One that is a link does not count, as for git."""
    try:
        if file.is_symlink() or not file.is_file():
            return []
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES)
    except OSError:
        return []
    return text.decode("utf-8-sig", "surrogateescape").split("\n")


def _top_of_repository(folder: Path) -> Path | None:
    return next((above for above in (folder, *folder.parents) if (above / ".git").exists()), None)


def _exclude_file(top: Path) -> Path:
    """Return the place of `info/exclude`. In a second work tree `.git` is a file that names the folder."""
    git = top / ".git"
    if git.is_dir():
        return git / "info" / "exclude"
    named = "\n".join(_lines_of(git)).removeprefix("gitdir:").strip()
    own = top / named
    common = "\n".join(_lines_of(own / "commondir")).strip()
    return own / common / "info" / "exclude"
