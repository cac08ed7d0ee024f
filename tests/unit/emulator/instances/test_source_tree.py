"""Which files are a function's source, and when one of them has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.config.schema import Reload
from bridge.emulator.instances.source_tree import SourceTree, changes

ALL = Reload()


def change(folder: Path, act: Callable[[], object], rules: Reload = ALL) -> list[str]:
    """The names of what differs after `act`."""
    tree = SourceTree(folder, rules)
    before = tree.look({})
    act()
    return [each.name for each in changes(before, tree.look(before))]


def written(folder: Path, name: str, rules: Reload = ALL) -> list[str]:
    """The names of what differs after a file is written."""

    def write() -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("new")

    return change(folder, write, rules)


@pytest.mark.parametrize(
    "name",
    ["app.py", "deep/er/app.py", "index.mjs", "bootstrap", "settings.json", "page.html", "api.proto", ".env", "Ünï.py"],
)
def test_what_lies_in_the_folder_counts(tmp_path: Path, name: str) -> None:
    assert [name] == written(tmp_path, name)


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/app.cpython-311.pyc",
        "app.pyc",
        ".git/index",
        ".mypy_cache/x.json",
        ".pytest_cache/v/x",
        ".ruff_cache/x",
        "node_modules/a/index.js",
        "bridge.log",
        "logs/deep/a.log",
        ".app.py.swp",
        ".app.py.swo",
        "app.py~",
        "4913",
        ".#app.py",
        "#app.py#",
        "app.py___jb_tmp___",
        "app.py___jb_old___",
        ".DS_Store",
    ],
)
def test_caches_logs_and_leavings_of_editors_do_not_count(tmp_path: Path, name: str) -> None:
    assert [] == written(tmp_path, name)


@pytest.mark.parametrize("folder", ["venv", ".venv", "py", "deep/my env"])
def test_virtual_environments_never_count(tmp_path: Path, folder: str) -> None:
    """Whatever their name: a file pyvenv.cfg makes one. Not even if `include` names what is in it."""
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "pyvenv.cfg").touch()

    assert [] == written(tmp_path, f"{folder}/lib/x.py")
    assert [] == written(tmp_path, f"{folder}/lib/x_pb2.py")
    assert [] == written(tmp_path, f"{folder}/lib/y.py", Reload(include=("*.py",)))


def test_a_folder_that_is_marked_as_a_cache_does_not_count(tmp_path: Path) -> None:
    """As cargo marks `target`."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target/CACHEDIR.TAG").touch()

    assert [] == written(tmp_path, "target/debug/x.rs")


GIT_IGNORE = "out/\n*.gen.py\n/local.json\n!kept.gen.py\n"


@pytest.mark.parametrize("name", ["out/x.py", "out/deep/x.py", "a.gen.py", "src/b.gen.py", "local.json"])
def test_what_git_ignores_does_not_count(tmp_path: Path, name: str) -> None:
    (tmp_path / ".gitignore").write_text(GIT_IGNORE)

    assert [] == written(tmp_path, name)


@pytest.mark.parametrize("name", ["kept.gen.py", "src/local.json", "outer/x.py"])
def test_what_gitignore_takes_back_or_does_not_name_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / ".gitignore").write_text(GIT_IGNORE)

    assert [name] == written(tmp_path, name)


def test_gitignore_of_inner_and_of_outer_folders_holds(tmp_path: Path) -> None:
    """Down from the top of the repository."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.tmp.json\n")
    function = tmp_path / "functions/f"
    (function / "inner").mkdir(parents=True)
    (function / "inner/.gitignore").write_text("secret.txt\n")

    assert [] == written(function, "a.tmp.json")
    assert [] == written(function, "inner/secret.txt")
    assert ["secret.txt"] == written(function, "secret.txt")


@pytest.mark.parametrize("name", ["a_pb2.py", "gen/v1/a_pb2_grpc.py", "gen/a_pb2.pyi", "gen/a_pb.js", "gen/a.pb.go"])
def test_generated_code_counts_though_git_ignores_it(tmp_path: Path, name: str) -> None:
    (tmp_path / ".gitignore").write_text("gen/\n*_pb2*\n*_pb.js\n*.pb.go\n")

    assert [name] == written(tmp_path, name)


@pytest.mark.parametrize(
    ("rules", "name", "counts"),
    [
        (Reload(exclude=("data/**",)), "data/a.py", False),
        (Reload(exclude=("data/**",)), "data/deep/a_pb2.py", False),
        (Reload(exclude=("data/",)), "data/a.py", False),
        (Reload(exclude=("data/**",)), "app.py", True),
        (Reload(exclude=("*.json",)), "deep/a.json", False),
        (Reload(include=("*.py",)), "app.py", True),
        (Reload(include=("*.py",)), "deep/app.py", True),
        (Reload(include=("*.py",)), "page.html", False),
        (Reload(include=("*.py", "templates/**")), "templates/deep/page.html", True),
        (Reload(include=("*.py",), exclude=("data/**",)), "data/a.py", False),
        (Reload(include=("local.json",)), "local.json", True),  # git ignores it
        (Reload(include=("out/a.txt",)), "out/a.txt", True),  # git ignores its folder
        (Reload(include=("*.log",)), "a.log", True),
        (Reload(include=("*.txt",)), "a_pb2.py", True),
    ],
)
def test_include_and_exclude(tmp_path: Path, rules: Reload, name: str, counts: bool) -> None:
    """`include` names all that counts, and generated code besides; `exclude` goes first."""
    (tmp_path / ".gitignore").write_text("out/\nlocal.json\n")

    assert ([name] if counts else []) == written(tmp_path, name, rules)


def test_only_content_counts(tmp_path: Path) -> None:
    """Not the time, not the inode: touched, or saved as it was."""
    path = tmp_path / "app.py"
    path.write_text("same")

    def save_as_it_was() -> None:
        (tmp_path / "new").write_text("same")
        (tmp_path / "new").rename(path)

    assert [] == change(tmp_path, path.touch)
    assert [] == change(tmp_path, lambda: os.utime(path, (1, 1)))
    assert [] == change(tmp_path, lambda: path.write_text("same"))
    assert [] == change(tmp_path, save_as_it_was)
    assert [] == change(tmp_path, lambda: path.chmod(0o755))


def test_content_counts_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("a = 1")
    found = path.stat()

    def replace() -> None:
        path.write_text("a = 2")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert ["app.py"] == change(tmp_path, replace)


def test_new_renamed_and_removed_files_are_changes(tmp_path: Path) -> None:
    (tmp_path / "old.py").touch()
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/a.py").touch()

    assert ["new.py", "old.py"] == change(tmp_path, lambda: (tmp_path / "old.py").rename(tmp_path / "new.py"))
    assert ["moved/a.py", "pack/a.py"] == change(tmp_path, lambda: (tmp_path / "pack").rename(tmp_path / "moved"))
    assert ["new.py"] == change(tmp_path, (tmp_path / "new.py").unlink)


def test_a_gitignore_that_changes_is_a_change(tmp_path: Path) -> None:
    """And what it ignores now no longer counts."""
    (tmp_path / "a.txt").touch()

    assert [".gitignore", "a.txt"] == change(tmp_path, lambda: (tmp_path / ".gitignore").write_text("a.txt"))


def test_links_are_followed_to_files_only(tmp_path: Path) -> None:
    """A link to a folder may lead anywhere, and in a circle."""
    code, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    code.mkdir()
    elsewhere.mkdir()
    (elsewhere / "shared.py").touch()
    (code / "shared.py").symlink_to(elsewhere / "shared.py")
    (code / "folder").symlink_to(elsewhere)
    (code / "circle").symlink_to(code)
    (code / "broken").symlink_to(code / "nothing")

    assert ["shared.py"] == change(code, lambda: (elsewhere / "shared.py").write_text("new"))


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert {} == SourceTree(tmp_path / "gone", ALL).look({})


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    """A socket in the folder, too."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.py").touch()

    assert {"a.py"} == SourceTree(tmp_path, ALL).look({}).keys()


def test_our_own_output_does_not_count(tmp_path: Path) -> None:
    """`serve 2> out.txt` in the function's folder: each line would restart the function, and say so in the next."""
    source = (
        "import sys, pathlib\n"
        "from bridge.config.schema import Reload\n"
        "from bridge.emulator.instances.source_tree import SourceTree\n"
        "print(*SourceTree(pathlib.Path(sys.argv[1]), Reload()).look({}))\n"
    )
    (tmp_path / "app.py").touch()
    with (tmp_path / "out.txt").open("w") as errors:
        done = subprocess.run(
            [sys.executable, "-c", source, str(tmp_path)], stdout=subprocess.PIPE, stderr=errors, text=True, check=True
        )

    assert ["app.py"] == done.stdout.split()
