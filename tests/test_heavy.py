"""Which heavy parts run: what has changed since which commit, and that nothing is left out without a line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.heavy import PARTS, ROOT, USUAL, Part, changed_files, commands, decide, find_base, main

NAMES = {part.name for part in PARTS}
Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A repository with one commit on `main`; runs git there."""

    def run(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    run("init", "--quiet", "--initial-branch=main")
    write(tmp_path, git=run, names=("README.md", "bridge/app.py", "docs/a.md", "CHANGELOG.md"))
    return run


def write(root: Path, *, git: Git | None = None, names: tuple[str, ...] = ()) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("a") as file:
            file.write("x\n")
    if git is not None:
        git("add", "-A")
        git("commit", "--quiet", "-m", ", ".join(names))


def running(root: Path, **environ: str) -> set[str]:
    return {name for name, decision in decide(root, environ).items() if decision.runs}


def test_everything_runs_without_a_commit_to_compare_with(tmp_path: Path, git: Git) -> None:
    """A checkout of the main branch alone, a name that is no commit, GitHub's zeros, and a folder without git."""
    write(tmp_path, git=git, names=("CHANGELOG.md",))
    bare = tmp_path / "bare"
    bare.mkdir()

    assert NAMES == running(tmp_path) == running(tmp_path, CI_BASE="no-such-commit") == running(tmp_path, CI_BASE="000")
    assert NAMES == running(bare, GIT_DIR="none")
    assert all("no commit to compare with" in str(each) for each in decide(tmp_path, {}).values())


def test_everything_runs_if_that_is_wanted(tmp_path: Path, git: Git) -> None:
    git("tag", "v1.0.0")
    write(tmp_path, git=git, names=("CHANGELOG.md",))

    assert set() == running(tmp_path)
    assert NAMES == running(tmp_path, CI_FULL="1")


def test_a_branch_is_compared_with_where_it_left(tmp_path: Path, git: Git) -> None:
    """What came to `main` since then does not count."""
    git("checkout", "--quiet", "-b", "topic")
    write(tmp_path, git=git, names=("docs/a.md", "CHANGELOG.md"))
    git("checkout", "--quiet", "main")
    write(tmp_path, git=git, names=("bridge/app.py",))
    git("checkout", "--quiet", "topic")

    assert {"roads"} == running(tmp_path)
    left = decide(tmp_path, {})["fuzzing"]
    assert str(left).startswith("is left out: nothing that it needs has changed since it left main, ")
    assert str(left).endswith("; CI_FULL=1 runs it")


def test_the_main_branch_is_compared_with_the_last_release(tmp_path: Path, git: Git) -> None:
    git("tag", "-a", "v1.0.0", "-m", "one")
    assert NAMES == running(tmp_path), "a release itself is tested in full"

    write(tmp_path, git=git, names=("CHANGELOG.md",))
    git("tag", "other")
    assert set() == running(tmp_path)

    write(tmp_path, git=git, names=("bridge/app.py",))
    assert NAMES == running(tmp_path)
    assert "runs: bridge/app.py changed since v1.0.0" == str(decide(tmp_path, {})["fuzzing"])


def test_ci_says_what_was_pushed_before(tmp_path: Path, git: Git) -> None:
    git("tag", "v1.0.0")
    write(tmp_path, git=git, names=("bridge/app.py",))
    before = git("rev-parse", "HEAD")
    write(tmp_path, git=git, names=("CHANGELOG.md",))

    assert NAMES == running(tmp_path)
    assert set() == running(tmp_path, CI_BASE=before)


def test_files_that_are_not_committed_count(tmp_path: Path, git: Git) -> None:
    """Changed, new, removed and moved ones, with any name."""
    git("tag", "v1.0.0")
    write(tmp_path, git=git, names=("CHANGELOG.md", "docs/b.md"))
    write(tmp_path, names=("README.md", "tests/fuzz/a b\n'ü'.py"))
    git("mv", "bridge/app.py", "moved.py")
    (tmp_path / "docs/a.md").unlink()
    base = find_base(tmp_path, "")

    assert base is not None
    expected = ["CHANGELOG.md", "README.md", "bridge/app.py", "docs/a.md", "docs/b.md", "moved.py"]
    assert [*expected, "tests/fuzz/a b\n'ü'.py"] == changed_files(tmp_path, base)
    assert "bridge/app.py, tests/fuzz/a b\n'ü'.py changed since" in str(decide(tmp_path, {})["fuzzing"])


def test_each_part_has_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_FULL", "1")

    assert 0 == main(["--list"])
    told = capsys.readouterr()
    assert NAMES == set(told.out.split())
    assert [f"{part.name} ({part.what}): runs: CI_FULL is set" for part in PARTS] == told.err.splitlines()


def test_parts_that_are_tests_share_one_run_of_pytest() -> None:
    fuzz, run = commands(PARTS)

    assert "fuzz" == fuzz[-1]
    assert 'full(part="compilers") or full(part="roads") or full(part="packaging")' == run[-1]
    assert [] == commands([])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_the_inputs_of_a_part_are_there(part: Part) -> None:
    for each in part.inputs:
        assert (ROOT / each).is_dir() if each.endswith("/") else (ROOT / each).is_file(), each


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_a_part_depends_on_the_files_of_its_tests(part: Part) -> None:
    mark = f'mark.full(part="{part.name}")'
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if mark in path.read_text()]
    names = [str(path.relative_to(ROOT)) for path in files]

    assert part.command or names
    assert sorted(names) == sorted(part.changed(names))


def test_what_is_fuzzed_is_among_the_inputs() -> None:
    """The modules that the targets import are in folders that fuzzing depends on."""
    (fuzzing,) = (part for part in PARTS if part.name == "fuzzing")
    tree = ast.parse((ROOT / "tests/fuzz/targets.py").read_text())
    imported = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [name.replace(".", "/") for name in imported if name.split(".")[0] in ("bridge", "lambda_fn", "tests")]

    assert len(ours) > 20
    assert ours == fuzzing.changed([f"{name}.py" for name in ours]) or all(
        fuzzing.changed([f"{name}/x.py"]) for name in ours
    )


MARKED = """
import pytest

@pytest.mark.full(part={part!r})
def test_named():
    pass

@pytest.mark.full
def test_unnamed():
    pass

def test_light():
    pass
"""


@pytest.mark.parametrize(
    ("part", "expression", "outcome"),
    [
        ("roads", 'full(part="roads")', "1 passed, 2 deselected"),
        ("roads", f'full(part="{USUAL}")', "1 passed, 2 deselected"),
        ("roads", "not full", "1 passed, 2 deselected"),
        ("rodes", "not full", "names 'rodes', which tests/heavy.py does not"),
    ],
)
def test_a_mark_says_to_which_part_a_test_belongs(tmp_path: Path, part: str, expression: str, outcome: str) -> None:
    """One that names none belongs to the usual part; one that is misspelt would never run."""
    (tmp_path / "test_it.py").write_text(MARKED.format(part=part))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.support.ci",
        "--rootdir",
        str(tmp_path),
        "-m",
        expression,
    ]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)

    assert outcome in done.stdout + done.stderr
