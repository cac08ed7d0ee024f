"""`make heavy`: the parts of the tests that take minutes, each if what it depends on has changed.

Changes count from the first of these commits that there is, up to the files as they are now:

1. CI_BASE: what a pull request goes into, or what was pushed before.
2. The commit at which this branch left `main`.
3. The last release's tag.

Everything runs if there is none of them, and with CI_FULL=1. Each part that is left out has a line that says so.
A test belongs to a part by its mark: `@pytest.mark.full(part="roads")`. `make test` leaves these tests out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_ALWAYS = (".ci/", ".github/workflows/ci.yml", "Makefile", "pyproject.toml", "tests/heavy.py", "tests/conftest.py")
"""Every part depends on how it is run."""
_NAMED = 3
"""Changed files that a reason names at most."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tests that run together."""

    name: str
    what: str
    inputs: tuple[str, ...]
    """Files, and folders with `/` at their end, relative to the repository."""
    command: tuple[str, ...] = ()
    """What runs it. Without it, pytest runs the tests of this part."""

    def changed(self, files: Sequence[str]) -> list[str]:
        """Return those of the changed files that it depends on."""
        inputs = (*_ALWAYS, *self.inputs)
        return [file for file in files if any(_is_in(file, each) for each in inputs)]


PARTS = (
    Part(
        "fuzzing",
        "the readers of outside bytes, fed by atheris",
        ("bridge/", "lambda_fn/", "requirements-dev.lock", "tests/fuzz/", "tests/support/"),
        ("make", "--no-print-directory", "fuzz"),
    ),
    Part(
        "compilers",
        "programs in Go and Rust, built while a test runs",
        ("bridge/", "lambda_fn/", "tests/crossing/test_new.py", "tests/support/"),
    ),
    Part(
        "roads",
        "README and `new`, followed in an empty environment",
        (
            "README.md",
            "bridge/",
            "docker/",
            "docs/",
            "lambda_fn/",
            "tests/crossing/test_new.py",
            "tests/crossing/test_tutorial.py",
            "tests/support/",
        ),
    ),
    Part(
        "packaging",
        "our packages, functions and infrastructure, built with packages from an index",
        ("README.md", "bridge/", "deploy/", "docker/", "lambda_fn/", "requirements-dev.lock", "tests/"),
    ),
)
USUAL = "packaging"
"""The part of a test whose mark names none. It depends on the most."""


@dataclass(frozen=True, slots=True)
class Base:
    """What changes are counted from."""

    commit: str
    what: str


def main(arguments: Sequence[str]) -> int:
    """Run the parts that must run, or with `--list` print their names alone. Returns the first exit code that is not
    0.
    """
    chosen = decide(ROOT, os.environ)
    for part in PARTS:
        print(f"{part.name} ({part.what}): {chosen[part.name]}", file=sys.stderr, flush=True)
    wanted = [part for part in PARTS if chosen[part.name].runs]
    if "--list" in arguments:
        print(*(part.name for part in wanted))
        return 0
    for command in commands(wanted):
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a part runs, and why."""

    runs: bool
    reason: str

    def __str__(self) -> str:
        return f"{'runs' if self.runs else 'is left out'}: {self.reason}"


def decide(root: Path, environ: Mapping[str, str]) -> dict[str, Decision]:
    """Return the decision on each part, by name."""
    if environ.get("CI_FULL"):
        return {part.name: Decision(runs=True, reason="CI_FULL is set") for part in PARTS}
    base = find_base(root, environ.get("CI_BASE", ""))
    if base is None:
        reason = "there is no commit to compare with (CI_BASE, a branch `main`, a release's tag)"
        return {part.name: Decision(runs=True, reason=reason) for part in PARTS}
    files = changed_files(root, base)
    return {part.name: _decision(part, part.changed(files), base) for part in PARTS}


def _decision(part: Part, changed: Sequence[str], base: Base) -> Decision:
    if not changed:
        return Decision(runs=False, reason=f"nothing that it needs has changed since {base.what}; CI_FULL=1 runs it")
    more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    return Decision(runs=True, reason=f"{', '.join(changed[:_NAMED])}{more} changed since {base.what}")


def find_base(root: Path, named: str) -> Base | None:
    """Return the commit that changes are counted from. `named`: CI_BASE; GitHub's is all zeros for a new branch."""
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        return None
    if named.strip("0"):
        commit = _git(root, "merge-base", named, "HEAD")
        if commit is not None:
            return Base(commit, f"CI_BASE, {commit[:9]}")
    for branch in ("origin/main", "main"):
        commit = _git(root, "merge-base", branch, "HEAD")
        if commit is not None and commit != head:
            return Base(commit, f"it left {branch}, {commit[:9]}")
    tag = _git(root, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD")
    if tag is not None:
        commit = _git(root, "rev-list", "-n", "1", tag)
        if commit is not None and commit != head:  # the release itself is tested in full
            return Base(commit, tag)
    return None


def changed_files(root: Path, base: Base) -> list[str]:
    """Return the files that differ from the base, uncommitted ones too. A file that moved counts with both names."""
    tracked = _git(root, "diff", "--name-only", "--no-renames", "-z", base.commit) or ""
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z") or ""
    return sorted({file for file in (tracked + "\0" + new).split("\0") if file})


def commands(parts: Sequence[Part]) -> list[Sequence[str]]:
    """Return what runs these parts: pytest once for all that are tests."""
    found: list[Sequence[str]] = [part.command for part in parts if part.command]
    marks = [f'full(part="{part.name}")' for part in parts if not part.command]
    if marks:
        found.append((sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", " or ".join(marks)))
    return found


def _is_in(file: str, of: str) -> bool:
    return file.startswith(of) if of.endswith("/") else file == of


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
