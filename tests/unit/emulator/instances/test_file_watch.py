"""Changes of files below functions' folders: the ways in which editors and builds save them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.config.schema import Reload
from bridge.emulator.instances.file_watch import FileWatch, Followed
from bridge.emulator.instances.source_tree import FileChange

pytestmark = pytest.mark.real_clock  # the kernel tells of changes through a thread

PATIENCE = 20
"""Seconds for what must come."""


class Watched:
    """A folder that is followed, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: asyncio.Queue[list[str]] = asyncio.Queue()

    def take(self, followed: Followed, changes: list[FileChange]) -> None:
        assert self.folder == followed.folder
        self.told.put_nowait([change.name for change in changes])

    async def next(self) -> list[str]:
        async with asyncio.timeout(PATIENCE):
            return await self.told.get()

    async def all_until(self, mark: str) -> list[list[str]]:
        """What is told from now on, until this file is written and told, without that."""
        await asyncio.sleep(1)  # what was told in two parts is not one
        (self.folder / mark).write_text("mark")
        told = []
        while [mark] != (names := await self.next()):
            told.append(names)
        return told


@asynccontextmanager
async def watched(folder: Path, rules: Reload | None = None) -> AsyncIterator[Watched]:
    """Followed from the first look on: what changes after this is told."""
    seen = Watched(folder)
    watch = FileWatch(seen.take, looked_after=0.05)
    await watch.follow({Followed(folder, rules or Reload())})
    try:
        yield seen
    finally:
        await watch.close()


async def test_a_change_is_told_though_the_watching_begins_later(tmp_path: Path) -> None:
    """The kernel is asked in a thread: what changes before that must not be lost."""
    async with watched(tmp_path) as seen:
        (tmp_path / "app.py").write_text("new")

        assert ["app.py"] == await seen.next()


def in_place(path: Path) -> None:
    path.write_text("new")


def in_two_writes(path: Path) -> None:
    """Truncated first, and written piece by piece."""
    with path.open("w") as file:
        file.flush()
        os.fsync(file.fileno())
        for piece in ("n", "ew"):
            file.write(piece)
            file.flush()


def by_a_temporary_file(path: Path) -> None:
    """As most IDEs: a new file is renamed over the old one."""
    temporary = path.with_name(f".{path.name}.k3jx.tmp")
    temporary.write_text("new")
    temporary.rename(path)


def by_a_temporary_file_of_any_name(path: Path) -> None:
    temporary = path.with_name("tmpabc123")
    temporary.write_text("new")
    temporary.replace(path)


def as_vim(path: Path) -> None:
    """It tries whether it may write (4913), moves the old file away, writes a new one, and removes the old one."""
    folder, backup = path.parent, path.with_name(f"{path.name}~")
    (folder / f".{path.name}.swp").write_text("swap")
    (folder / "4913").touch()
    (folder / "4913").unlink()
    path.rename(backup)
    path.write_text("new")
    backup.unlink()
    (folder / f".{path.name}.swp").unlink()


def as_emacs(path: Path) -> None:
    """A lock that is a broken link, an autosave file, and a backup."""
    (path.parent / f".#{path.name}").symlink_to("user@host.1:2")
    (path.parent / f"#{path.name}#").write_text("autosaved")
    shutil.copy2(path, f"{path}~")
    path.write_text("new")
    (path.parent / f"#{path.name}#").unlink()
    (path.parent / f".#{path.name}").unlink()


def as_jetbrains(path: Path) -> None:
    made, old = path.with_name(f"{path.name}___jb_tmp___"), path.with_name(f"{path.name}___jb_old___")
    made.write_text("new")
    path.rename(old)
    made.rename(path)
    old.unlink()


def removed_and_written(path: Path) -> None:
    path.unlink()
    path.write_text("new")


Save = Callable[[Path], None]
SAVES: list[Save] = [
    in_place,
    in_two_writes,
    by_a_temporary_file,
    by_a_temporary_file_of_any_name,
    as_vim,
    as_emacs,
    as_jetbrains,
    removed_and_written,
]


@pytest.mark.slow
@pytest.mark.parametrize("save", SAVES)
async def test_each_way_to_save_is_one_change(tmp_path: Path, save: Save) -> None:
    """However many steps it takes."""
    (tmp_path / "app.py").write_text("old")
    async with watched(tmp_path) as seen:
        save(tmp_path / "app.py")

        assert [["app.py"]] == await seen.all_until("mark.py")


@pytest.mark.slow
@pytest.mark.parametrize("save", SAVES)
async def test_to_save_a_file_as_it_was_is_no_change(tmp_path: Path, save: Save) -> None:
    (tmp_path / "app.py").write_text("new")
    async with watched(tmp_path) as seen:
        save(tmp_path / "app.py")
        (tmp_path / "app.py").touch()

        assert [] == await seen.all_until("mark.py")


@pytest.mark.slow
async def test_files_that_are_saved_together_are_one_change(tmp_path: Path) -> None:
    """A save of all files, or a compiler."""
    names = [f"m{number}.py" for number in range(5)]
    async with watched(tmp_path) as seen:
        for name in names:
            (tmp_path / name).write_text("new")

        assert [names] == await seen.all_until("mark.py")


@pytest.mark.slow
async def test_what_does_not_count_is_not_told(tmp_path: Path) -> None:
    """And what is told next names only what counts."""
    (tmp_path / ".gitignore").write_text("out/\n")
    (tmp_path / "env").mkdir()
    (tmp_path / "env/pyvenv.cfg").touch()
    async with watched(tmp_path, Reload(exclude=("data/**",))) as seen:
        for name in ("out/a.py", "env/a.py", "data/a.py", "__pycache__/a.pyc", "a.log"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("new")

        assert [] == await seen.all_until("mark.py")


@pytest.mark.slow
async def test_a_folder_below_one_that_is_named_like_a_cache_is_followed(tmp_path: Path) -> None:
    """Only what lies in the function's folder is judged, not where the folder lies."""
    folder = tmp_path / ".cache/node_modules/f"
    folder.mkdir(parents=True)
    async with watched(folder) as seen:
        await asyncio.sleep(0.5)
        (folder / "app.py").write_text("new")

        assert ["app.py"] == await seen.next()


@pytest.mark.slow
async def test_a_folder_that_is_made_anew_is_followed(tmp_path: Path) -> None:
    """`rm -rf dist && build`: its coming counts as a change, whatever is in it, and so does what changes in it
    afterwards; likewise one that comes late.
    """
    folder = tmp_path / "dist"
    async with watched(folder) as seen:
        for expected in (["app.py"], []):
            folder.mkdir()
            (folder / "app.py").write_text("same")
            assert expected == await seen.next()
            (folder / "more.py").write_text("new")
            assert ["more.py"] == await seen.next()
            (folder / "more.py").unlink()
            assert ["more.py"] == await seen.next()
            folder.rename(tmp_path / "old")
            shutil.rmtree(tmp_path / "old")
            await asyncio.sleep(0.3)
