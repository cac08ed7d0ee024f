"""docs/how-to-add: each patch applies to this tree, works there, and touches as many files as the pages say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parent.parent
FOLDER = REPOSITORY / "docs" / "how-to-add"
PATCHES = sorted(FOLDER.glob("*.patch"))


class Addition(NamedTuple):
    """What a patch adds."""

    heading: str
    """Of its list in ARCHITECTURE.md."""
    most: int
    """Files of code in `bridge/` that it may touch."""
    config: str = ""
    """A configuration that only a tree with the patch takes."""


ARN = "arn:aws:lambda:eu-west-1:123456789012:function:f"

ADDITIONS = {
    "payload-format": Addition(
        "A payload format",
        2,
        f"services: {{a.B: {{target: '{ARN}', payload: grpc-web-text}}}}",
    ),
    "target": Addition("A kind of target", 4, "services: {a.B: 'status:UNAVAILABLE'}"),
    "event-shape": Addition(
        "An event shape",
        2,
        f"services: {{a.B: {{target: '{ARN}', event: lattice}}}}",
    ),
    "configuration-key": Addition("A configuration key", 2, "services:\nhealth: {interval: 1m}"),
    "metric": Addition("A metric", 2),
    "command": Addition("A command", 2),
}

DOCUMENTS = (
    "tests/test_docs.py::test_every_key_is_in_the_example",
    "tests/test_docs.py::test_the_example_shows_the_defaults",
    "tests/test_docs_metrics.py",
)
"""Tests that ask whether the documents have what was added."""

NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*", "node_modules", "target", "corpus")
COPIED = ("bridge", "lambda_fn", "tests", "docs", "pyproject.toml", "config.example.yaml", "README.md")


def paths_of(patch: Path) -> list[str]:
    """The files that a patch touches."""
    return re.findall(r"^\+\+\+ b/(.*)$", patch.read_text(), re.MULTILINE)


def counted(patch: Path) -> str:
    """The files of code that a patch touches, in words: neither tests nor documents."""
    code = Counter(path.partition("/")[0] for path in paths_of(patch) if re.match(r"(bridge|lambda_fn)/.*\.py$", path))
    return ", ".join(f"{count} in `{folder}/`" for folder, count in sorted(code.items()))


def check(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    """`check` of a configuration, by the code in this folder."""
    return run(folder, "-m", "bridge", "check", "-c", "/dev/stdin", text=config)


def run(folder: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the patches need: a checkout and an unpacked archive have it alike."""
    folder = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=NOT_COPIED, symlinks=True)
        else:
            shutil.copy(source, folder / name)
    return folder


def patched(tree: Path, patch: Path, folder: Path) -> Path:
    """A copy of the tree with this patch. It is no repository, and it is not taken for a part of one."""
    copy = folder / "patched"
    shutil.copytree(tree, copy, symlinks=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ["GIT_CEILING_DIRECTORIES"] = str(folder)
    tool = ["git", "apply"] if shutil.which("git") else ["patch", "-p1", "--batch", "-i"]
    applied = subprocess.run(
        [*tool, str(patch)], cwd=copy, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert applied.returncode == 0, f"{patch.name} is stale; {FOLDER.name}/README.md says what to do\n{applied.stderr}"
    return copy


def test_there_is_a_patch_for_each_list_of_the_page() -> None:
    page = (REPOSITORY / "ARCHITECTURE.md").read_text().partition("\n## How to add\n")[2].partition("\n## ")[0]

    assert set(ADDITIONS) == {patch.stem for patch in PATCHES}
    assert [added.heading for added in ADDITIONS.values()] == re.findall(r"^\*\*([^*]+)\*\*", page, re.MULTILINE)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_pages_count_the_files_of_the_patch(patch: Path) -> None:
    heading = ADDITIONS[patch.stem].heading
    line = f"**{heading}** ({counted(patch)}: [patch](docs/how-to-add/{patch.name}))\n"
    row = re.search(rf"^\| \[{patch.name}\].* \| ([^|]+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)

    assert line in (REPOSITORY / "ARCHITECTURE.md").read_text()
    assert row is not None
    assert counted(patch) == row[1]


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_few_files_are_touched(patch: Path) -> None:
    code = [path for path in paths_of(patch) if path.startswith("bridge/")]

    assert 0 < len(code) <= ADDITIONS[patch.stem].most


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_the_patch_works(patch: Path, tree: Path, tmp_path: Path) -> None:
    """Its own tests pass in a tree with it, the documents are complete, and `check` takes what it adds."""
    copy = patched(tree, patch, tmp_path)
    config = ADDITIONS[patch.stem].config
    tests = [path for path in paths_of(patch) if re.search(r"/test_\w+\.py$", path)]
    assert tests

    ran = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *DOCUMENTS)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if config:
        assert check(tree, config).returncode == 2
        found = check(copy, config)
        assert found.returncode == 0, found.stderr
