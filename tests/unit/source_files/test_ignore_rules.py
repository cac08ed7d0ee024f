"""What is ignored: compared with git itself, over rules that authors write and rules that chance writes."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.source_files.ignore_rules import IgnoreRules, Rule

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "-c", "core.quotePath=false", *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def repository(folder: Path, files: dict[str, str]) -> Path:
    git(folder, "init", "--quiet")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def kept(folder: Path, rules: IgnoreRules, top: Path) -> set[str]:
    """The files that the rules leave, found from the top down."""
    found: set[str] = set()
    for path in folder.iterdir():
        if path.name == ".git" or rules.rule_for(path, is_folder=path.is_dir()) is not None:
            continue
        found |= kept(path, rules.within(path), top) if path.is_dir() else {path.relative_to(top).as_posix()}
    return found


def kept_by_git(folder: Path) -> set[str]:
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z")
    return {name for name in listed.split("\0") if name}


TREE = [
    "app.py",
    "a.log",
    "keep.log",
    "build/x.py",
    "build/sub/keep.txt",
    "src/build/y.py",
    "src/app.py",
    "data/a.bin",
    "data/sub/b.bin",
    "data/sub/c.json",
    "gen/v1/a_pb2.py",
    "#odd",
    "!odd",
    "trailing ",
    "sp ace.txt",
    "ü.txt",
    "a[1].txt",
]

RULES = {
    "folders": "build/\n",
    "anchored": "/build\n/app.py\n",
    "taken back": "*.log\n!keep.log\n",
    "not below an ignored folder": "build/\n!build/sub/keep.txt\n",
    "below a folder whose content is ignored": "build/*\n!build/sub/\nbuild/sub/*\n!build/sub/keep.txt\n",
    "one kind of file, at any depth": "data/**\n!data/**/\n!data/**/*.json\n",
    "all but one kind": "*\n!*/\n!*.py\n",
    "stars": "**/sub\nsrc/**/y.py\n",
    "all": "**\n",
    "escapes": "\\#odd\n\\!odd\ntrailing\\ \na\\[1].txt\n",
    "comments and blanks": "# build/\n\n   \n",
    "spaces at the end": "build/   \nsp ace.txt  \n",
    "what is no pattern": "!\n/\n[\n[z-a]\na\\\n*.log\n",
    "line ends of Windows": "",
    "characters": "a[[]1].txt\n?.log\n[!a]pp.py\nü*\n",
    "a byte order mark": "\ufeffbuild/\n",
    "a folder without its slash": "sub\n!sub/\n",
    "a slash in the middle": "data/sub\n",
}


@needs_git
@pytest.mark.parametrize("text", RULES.values(), ids=RULES)
def test_rules_mean_what_they_mean_to_git(tmp_path: Path, text: str) -> None:
    repository(tmp_path, {**dict.fromkeys(TREE, ""), ".gitignore": text})

    assert kept_by_git(tmp_path) == kept(tmp_path, IgnoreRules.of(tmp_path), tmp_path)


@needs_git
def test_the_files_of_inner_folders_and_the_exclude_file_count(tmp_path: Path) -> None:
    """The innermost file goes first, and info/exclude last."""
    files = {
        ".gitignore": "*.bin\n/gen\nsrc/*.py\n",
        "data/.gitignore": "!a.bin\n*.json\n",
        "data/sub/.gitignore": "!c.json\n",
        ".git/info/exclude": "app.py\n",
    }
    repository(tmp_path, {**dict.fromkeys(TREE, ""), **files})

    found = kept(tmp_path, IgnoreRules.of(tmp_path), tmp_path)
    assert kept_by_git(tmp_path) == found
    assert {"data/a.bin", "data/sub/c.json"} <= found
    assert not {"app.py", "gen/v1/a_pb2.py", "data/sub/b.bin"} & found


@needs_git
@pytest.mark.parametrize("seed", range(12))
def test_rules_of_chance_mean_what_they_mean_to_git(tmp_path: Path, seed: int) -> None:
    """Twelve repositories with up to eight rules each, in two files."""
    choose = random.Random(seed)
    parts = ["a", "b", "*", "**", "a*", "?", "[ab]", "!a"]

    def rule() -> str:
        middle = "/".join(choose.choice(parts) for _ in range(choose.randint(1, 3)))
        return choose.choice(["", "!", "/"]) + middle + choose.choice(["", "/"])

    names = ["a", "b", "ab", "x"]
    files = {
        "/".join(choose.choice(names) + f"{depth}" * (depth == 2) for depth in range(choose.randint(1, 4))) + ".f": ""
        for _ in range(25)
    }
    files = {path: "" for path in files if not any(other.startswith(f"{path}/") for other in files)}
    rules = {".gitignore": "".join(f"{rule()}\n" for _ in range(choose.randint(1, 5)))}
    folder = choose.choice(sorted({path.partition("/")[0] for path in files if "/" in path}) or ["a"])
    rules[f"{folder}/.gitignore"] = "".join(f"{rule()}\n" for _ in range(choose.randint(0, 3)))
    repository(tmp_path, {**files, **rules})

    assert kept_by_git(tmp_path) == kept(tmp_path, IgnoreRules.of(tmp_path), tmp_path), rules


@needs_git
def test_a_folder_in_a_repository_has_the_rules_from_the_top(tmp_path: Path) -> None:
    """Also in a second work tree, whose info/exclude is that of the first."""
    first = tmp_path / "first"
    first.mkdir()
    repository(first, {"functions/orders/app.py": "", ".gitignore": "*.log\n"})
    git(first, "add", ".")
    git(first, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    git(first, "worktree", "add", "--quiet", "../second")
    (first / ".git/info/exclude").write_text("*.tmp\n")

    for top in (first, tmp_path / "second"):
        orders = top / "functions/orders"
        for name in ("a.log", "a.tmp"):
            (orders / name).touch()
        assert {"functions/orders/app.py"} == kept(orders, IgnoreRules.of(orders), top)


def test_without_a_repository_the_folders_own_file_counts(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("outer.txt\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / ".gitignore").write_text("\nhidden.txt\n")
    rules = IgnoreRules.of(inner)

    assert rules.rule_for(inner / "outer.txt", is_folder=False) is None
    assert Rule("hidden.txt", inner / ".gitignore", 2) == rules.rule_for(inner / "hidden.txt", is_folder=False)


def test_a_rule_says_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("# what is made\ngen/\n")
    rule = IgnoreRules.of(tmp_path).rule_for(tmp_path / "gen", is_folder=True)

    assert f"'gen/' in {tmp_path}/.gitignore:2" == str(rule)


def test_a_file_of_rules_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    """A folder, a link (as for git), bytes that are no text, or megabytes of one line."""
    (tmp_path / "rules").write_text("a.txt\n")
    for name in ("folder", "link", "bytes", "long"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder/.gitignore").mkdir()
    (tmp_path / "link/.gitignore").symlink_to("../rules")
    (tmp_path / "bytes/.gitignore").write_bytes(b"\xff\xfe\na.txt\n")
    (tmp_path / "long/.gitignore").write_bytes(b"x" * (2 << 20) + b"\na.txt\n")
    ignored = {
        name: IgnoreRules.of(tmp_path / name).rule_for(tmp_path / name / "a.txt", is_folder=False) is not None
        for name in ("folder", "link", "bytes", "long")
    }

    assert {"folder": False, "link": False, "bytes": True, "long": False} == ignored
