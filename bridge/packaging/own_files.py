"""The function's own files: which of its folder go into the package, and why the others do not.

Links are followed as long as they stay in the folder. A link out of it, a secret and a virtual environment are refused.
`exclude` goes before all, then `include`, then the name of generated code, then `.gitignore`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.packaging.contents import PackedFile
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.marks import is_our_folder, is_our_zip, is_partial
from bridge.packaging.secrets import is_secret_file, is_secret_folder
from bridge.source_files.ignore_rules import IgnoreRules, Pattern, parse_rules
from bridge.source_files.kinds import is_cache, is_generated, is_leftover, is_virtual_environment

NODE_MODULES = "node_modules"
EXCLUDED = "package.exclude"
"""How the reason begins that `exclude` gives."""
_OF_GIT = frozenset({".gitignore", ".gitattributes", ".gitmodules"})
_BUILD_FOLDERS = frozenset({".aws-sam", ".serverless", ".terraform", "cdk.out"})
"""What the tools of neighbours build, with copies of the function in it."""
_CACHE_MARK = "CACHEDIR.TAG"
"""https://bford.info/cachedir/: many tools put it into their caches."""
_MAX_FILES = 200_000
"""Entries that are looked at. Links between folders can make endless trees of a few files."""
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is not packed because a rule says so."""

    path: str
    """In the function's folder, with slashes; that of a folder ends in one."""
    reason: str


@dataclass(slots=True)
class OwnFiles:
    """What was found in the function's folder."""

    files: dict[str, PackedFile] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def why_missing(self, path: str) -> str | None:
        """Return why this path is not in the package. None: no rule left it out."""
        for each in self.left_out:
            if path == each.path.rstrip("/") or (each.path.endswith("/") and path.startswith(each.path)):
                return each.reason
        # Of a folder, nothing was left.
        inner = (each for each in self.left_out if each.path.startswith(f"{path}/"))
        return next((each.reason for each in inner), None)


def find_own_files(
    folder: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    without: frozenset[Path] = frozenset(),
    has_node_modules: bool = False,
) -> OwnFiles:
    """Return the files of a folder that go into its package. Raises PackagingFailed for what must not.

    `without`: absolute paths that are left out. `has_node_modules`: whether the folder's own `node_modules` is looked
    after elsewhere.
    """
    rules = IgnoreRules.of(folder)
    return _found_by(_Walk(folder, rules, include, exclude, without, has_node_modules=has_node_modules))


def find_installed_files(folder: Path, *, exclude: Sequence[str]) -> dict[str, PackedFile]:
    """Return the files of a folder of dependencies. No `.gitignore` counts in it, and no name is that of a secret: it
    holds what is published. Links out of it are refused all the same.
    """
    return _found_by(_Walk(folder, None, (), exclude, frozenset(), has_node_modules=False)).files


def _found_by(walk: _Walk) -> OwnFiles:
    folder = walk.folder
    try:
        if is_virtual_environment(folder):
            raise PackagingFailed(f"{folder} is a virtual environment, not a function: name the function's folder")
        walk.run()
    except OSError as error:
        raise PackagingFailed(f"{error.filename or folder}: {error.strerror}") from error
    if walk.refused:
        raise PackagingFailed(_refusal(folder, walk.refused))
    return walk.found


def _refusal(folder: Path, refused: list[str]) -> str:
    shown = [f"  {line}" for line in refused[:_SHOWN]]
    if len(refused) > _SHOWN:
        shown.append(f"  and {len(refused) - _SHOWN} more")
    return "\n".join(
        (
            f"{folder} has files that must not get into a package:",
            *shown,
            "To leave one out, name it in .gitignore or in package: {exclude: [...]} of the function (or --exclude).",
            "To pack a file on purpose, name it without wildcards in package: {include: [...]} (or --include).",
        )
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that is being looked through."""

    path: Path
    """As it is reached, perhaps through links."""
    at: str
    """Its path in the package, with a slash at its end; the outermost one's is empty."""
    rules: IgnoreRules
    ignored: str | None = None
    """Why it is ignored. Only generated code and what `include` names is taken of it then."""
    is_included: bool = False
    real: tuple[Path, ...] = ()
    """The real paths of this folder and those around it. A link to one of them would never end."""


class _Walk:
    def __init__(
        self,
        folder: Path,
        rules: IgnoreRules | None,
        include: Sequence[str],
        exclude: Sequence[str],
        without: frozenset[Path],
        *,
        has_node_modules: bool,
    ) -> None:
        """`rules`: those of the folder; None: none count, and no name is that of a secret."""
        self.found = OwnFiles()
        self.refused: list[str] = []
        self.folder = folder
        self._rules = rules
        self._include = tuple(parse_rules(include, Path("package.include")))
        self._exclude = tuple(parse_rules(exclude, Path("package.exclude")))
        self._without = {each.resolve() for each in without}
        self._without_names = {each.name for each in self._without}
        self._has_node_modules = has_node_modules
        self._seen = 0
        self._root = folder
        """Its real path, once it is known."""

    def run(self) -> None:
        """Look through all folders. Raises OSError if one cannot be read, PackagingFailed if it has too many files."""
        self._root = self.folder.resolve(strict=True)
        self._look_through(_Place(self.folder, "", self._rules or IgnoreRules(), real=(self._root,)))

    def _look_through(self, place: _Place) -> bool:
        """Take what is to be taken of a folder. Returns whether any of it is generated code."""
        has_generated = False
        inits: list[tuple[str, Path, os.stat_result, str]] = []
        for path in sorted(place.path.iterdir()):
            self._seen += 1
            if self._seen > _MAX_FILES:
                raise PackagingFailed(
                    f"{self.folder} has more than {_MAX_FILES:,} files, the most that are looked at: name folders that"
                    " do not belong to the function in .gitignore or in package: {exclude: [...]}"
                )
            for entry in self._resolved(path, place):
                if stat.S_ISDIR(entry.st_mode):
                    has_generated |= self._folder_in(place, path)
                    continue
                why = self._file_in(place, path, entry)
                has_generated |= why is None and is_generated(path.name)
                if why is not None and path.name == "__init__.py" and not self._is_excluded(place.at + path.name):
                    inits.append((place.at + path.name, path, entry, why))
        for at, path, entry, why in inits:
            # Code in a package may need what its packages do when they are imported.
            if has_generated:
                self._take(at, path, entry)
            else:
                self.found.left_out.append(LeftOut(at, why))
        return has_generated

    # -- links and what is no file --

    def _resolved(self, path: Path, place: _Place) -> Iterator[os.stat_result]:
        """Yield what a path leads to, if that may be taken."""
        at = place.at + path.name
        if self._is_never_packed(path):
            return
        if not path.is_symlink():
            yield path.stat()
            return
        if self._is_excluded(at) or self._is_excluded(f"{at}/"):
            return
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
            self.found.notes.append(f"{at} is left out: it is a link that leads nowhere")
            return
        if not real.is_relative_to(self._root):
            if place.ignored is None and self._why_ignored(place, path, is_folder=False) is None:
                self.refused.append(
                    f"{at} is a link out of the folder, to {path.readlink()}: copy what it leads to into the folder"
                )
            return
        inner = real.relative_to(self._root).parts
        if any(is_cache(part) for part in inner) or self._is_never_packed(real):
            self.found.notes.append(f"{at} is left out: it is a link to {'/'.join(inner)}, which is never packed")
            return
        if self._rules is not None and (any(map(is_secret_folder, inner)) or is_secret_file(real, real.name)):
            if self._why_ignored(place, path, is_folder=False) is None:
                self._refuse_secret(at, f"it is a link to {'/'.join(inner)}")
            return
        if real in place.real:
            self.found.notes.append(f"{at} is left out: it is a link to a folder around it")
            return
        yield path.stat()

    def _is_never_packed(self, path: Path) -> bool:
        return (
            (path.name in self._without_names and path.resolve() in self._without)
            or is_partial(path.name)
            or is_leftover(path.name)
            or path.name in _OF_GIT
            or (path.name == ".git" and not path.is_dir())
        )

    # -- folders --

    def _folder_in(self, place: _Place, path: Path) -> bool:
        at = f"{place.at}{path.name}/"
        if is_cache(path.name) or path.name in _BUILD_FOLDERS or is_our_folder(path):
            return False
        if at == f"{NODE_MODULES}/" and self._has_node_modules:
            return False
        if self._is_excluded(at):
            return False
        is_included = place.is_included or _matches(self._include, at)
        ignored = place.ignored or self._why_ignored(place, path, is_folder=not path.is_symlink())
        if ignored is not None and place.ignored is None and not is_included:
            self.found.left_out.append(LeftOut(at, ignored))
        if self._rules is not None and is_secret_folder(path.name):
            if (ignored is None or is_included) and not self._is_named(at):
                self._refuse_secret(at, "it holds secrets, by its name")
            if not self._is_named(at):
                return False
        if is_virtual_environment(path):
            if ignored is None or is_included:
                self.refused.append(f"{at} is a virtual environment: dependencies are fetched for the function anew")
            return False
        if (path / _CACHE_MARK).is_file():
            return False
        if ignored is not None and path.name == NODE_MODULES and not is_included:
            return False
        real = path.resolve()
        rules = place.rules if self._rules is None else place.rules.within(path)
        return self._look_through(
            _Place(path, at, rules, None if is_included else ignored, is_included, (*place.real, real))
        )

    # -- files --

    def _file_in(self, place: _Place, path: Path, entry: os.stat_result) -> str | None:
        """Take a file. Returns why it is ignored, if it is."""
        at = place.at + path.name
        if self._is_excluded(at):
            return "it is excluded"
        ignored = place.ignored or self._why_ignored(place, path, is_folder=False)
        is_wanted = place.is_included or _matches(self._include, at) or is_generated(path.name)
        if ignored is not None and not is_wanted:
            if place.ignored is None and path.name != "__init__.py":
                self.found.left_out.append(LeftOut(at, ignored))
            return ignored
        if not stat.S_ISREG(entry.st_mode):
            self.found.notes.append(f"{at} is left out: it is no regular file")
            return None
        if is_our_zip(path):
            return None
        if self._rules is not None and is_secret_file(path, path.name) and not self._is_named(at):
            self._refuse_secret(at, "it holds secrets, by its name")
            return None
        self._take(at, path, entry)
        return None

    def _take(self, at: str, path: Path, entry: os.stat_result) -> None:
        try:
            at.encode()
        except UnicodeEncodeError:
            self.refused.append(f"{os.fsencode(at)!r} has a name that is not UTF-8: rename it")
            return
        if not os.access(path, os.R_OK):
            self.refused.append(f"{at} cannot be read by this user")
            return
        # Through no link: what is packed is what was looked at.
        self.found.files[at] = PackedFile(path.resolve(), entry.st_size, bool(entry.st_mode & 0o111))

    # -- rules --

    def _why_ignored(self, place: _Place, path: Path, *, is_folder: bool) -> str | None:
        rule = place.rules.rule_for(path, is_folder=is_folder)
        return None if rule is None else f"the rule {rule} ignores it"

    def _is_excluded(self, at: str) -> bool:
        """Whether `exclude` names it; that is kept."""
        pattern = _match(self._exclude, at)
        if pattern is None:
            return False
        self.found.left_out.append(LeftOut(at, f"{EXCLUDED} has {pattern.rule.text!r}"))
        return True

    def _is_named(self, at: str) -> bool:
        """Whether `include` names this very file or folder, without a wildcard."""
        return any(not set("*?[") & set(pattern.rule.text) and _matches((pattern,), at) for pattern in self._include)

    def _refuse_secret(self, at: str, why: str) -> None:
        self.refused.append(f"{at}: {why}")


def _match(patterns: Sequence[Pattern], at: str) -> Pattern | None:
    """Return the last pattern that matches a path, unless that one takes it back (`!`)."""
    for pattern in reversed(patterns):
        if pattern.matches(at.rstrip("/"), is_folder=at.endswith("/")):
            return pattern if pattern.ignores else None
    return None


def _matches(patterns: Sequence[Pattern], at: str) -> bool:
    return _match(patterns, at) is not None
