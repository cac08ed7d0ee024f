"""What `serve --watch` follows: the content of the configuration and of the files that it names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.commands.config_watch import ConfigWatch

pytestmark = pytest.mark.real_clock  # files are read in threads

PATIENCE = 20


class Changes:
    """How often something has changed."""

    def __init__(self, watch: ConfigWatch) -> None:
        self.watch = watch
        self.count = 0
        self._came = asyncio.Event()

    def add(self) -> None:
        self.count += 1
        self._came.set()

    async def next(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._came.wait()
        self._came.clear()


@asynccontextmanager
async def watched(*files: Path) -> AsyncIterator[Changes]:
    changes = Changes(ConfigWatch(files))
    task = asyncio.get_running_loop().create_task(changes.watch.run(changes.add, interval=0.01))
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def is_one_change(path: Path, act: Callable[[], object]) -> bool:
    """Whether an act changes a file, once. A second change, which is sure to come, ends the waiting."""
    mark = path.parent / "a mark"
    async with watched(path, mark) as changes:
        act()
        await asyncio.sleep(0.7)
        before = changes.count
        mark.write_bytes(os.urandom(8))
        while changes.count == before:
            await changes.next()
    assert before in (0, 1)
    return before == 1


def written_in_place(path: Path) -> None:
    path.write_text("new")


def written_slowly(path: Path) -> None:
    with path.open("w") as file:
        for letter in "new":
            file.write(letter)
            file.flush()


def renamed_over(path: Path) -> None:
    (path.parent / "temporary").write_text("new")
    (path.parent / "temporary").rename(path)


def moved_away_and_written(path: Path) -> None:
    path.rename(path.with_name("backup~"))
    path.write_text("new")


SAVES = [written_in_place, written_slowly, renamed_over, moved_away_and_written]


@pytest.mark.slow
@pytest.mark.parametrize("save", SAVES)
async def test_each_way_to_save_is_one_change(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text("old")

    assert await is_one_change(path, lambda: save(path))


@pytest.mark.slow
@pytest.mark.parametrize("save", [*SAVES, Path.touch, lambda path: os.utime(path, (1, 1))])
async def test_a_file_that_stays_the_same_is_no_change(tmp_path: Path, save: Callable[[Path], None]) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text("new")

    assert not await is_one_change(path, lambda: save(path))


@pytest.mark.slow
async def test_the_wait_for_a_file_to_settle_is_no_work_to_rest_from(tmp_path: Path) -> None:
    """Each of ten changes is told soon after the one before it."""
    path = tmp_path / "bridge.yaml"
    path.write_text("old")
    async with asyncio.timeout(2 * PATIENCE), watched(path) as changes:
        for number in range(10):
            path.write_text(f"{number}")
            await changes.next()

    assert 10 == changes.count


@pytest.mark.slow
async def test_other_files_in_the_folder_are_no_change(tmp_path: Path) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text("same")

    assert not await is_one_change(path, lambda: (tmp_path / "bridge.log").write_text("a line"))


def version(mount: Path, name: str, **files: str) -> None:
    """Swap in a version of a ConfigMap as the kubelet does: a folder, and a link that is renamed over the former."""
    (mount / name).mkdir()
    for file, text in files.items():
        (mount / name / file).write_text(text)
    (mount / "..data_tmp").symlink_to(name)
    (mount / "..data_tmp").rename(mount / "..data")


@pytest.mark.slow
@pytest.mark.parametrize(("text", "is_change"), [("new", True), ("old", False)])
async def test_a_config_map_is_followed(tmp_path: Path, text: str, is_change: bool) -> None:
    """The file itself is a link that never changes."""
    mount = tmp_path / "mount"
    mount.mkdir()
    version(mount, "..1", config="old")
    (mount / "config").symlink_to("..data/config")
    (tmp_path / "bridge.yaml").symlink_to("mount/config")

    assert is_change == await is_one_change(tmp_path / "bridge.yaml", lambda: version(mount, "..2", config=text))


@pytest.mark.slow
async def test_a_folder_of_proto_files_is_followed(tmp_path: Path) -> None:
    """Files come, go and change, deep in it; others in it do not count."""
    folder = tmp_path / "protos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a.proto").write_text("old")

    assert await is_one_change(folder, lambda: (folder / "deep/a.proto").write_text("new"))
    assert await is_one_change(folder, lambda: (folder / "b.proto").write_text(""))
    assert await is_one_change(folder, lambda: (folder / "b.proto").rename(folder / "c.proto"))
    assert await is_one_change(folder, (folder / "c.proto").unlink)
    assert not await is_one_change(folder, lambda: (folder / "README").write_text(""))


@pytest.mark.slow
async def test_a_file_that_goes_or_comes_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"

    assert await is_one_change(path, lambda: path.write_text("new"))
    assert await is_one_change(path, path.unlink)


async def test_what_changes_before_the_watching_runs_is_a_change(tmp_path: Path) -> None:
    """It compares with what it read when it was made."""
    path = tmp_path / "bridge.yaml"
    path.write_text("old")
    changes = Changes(ConfigWatch([path]))
    path.write_text("new")
    task = asyncio.get_running_loop().create_task(changes.watch.run(changes.add, interval=0.01))
    await changes.next()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert 1 == changes.count


@pytest.mark.slow
async def test_what_is_followed_may_change(tmp_path: Path) -> None:
    """A file that is new among them is no change, and one that has left no longer counts."""
    former, later = tmp_path / "former", tmp_path / "later"
    former.write_text("old")
    later.write_text("old")
    async with watched(former) as changes:
        await changes.watch.follow([later])
        await asyncio.sleep(0.3)
        former.write_text("new")
        await asyncio.sleep(0.3)
        assert 0 == changes.count
        later.write_text("new")
        await changes.next()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_file_that_may_not_be_read_is_as_one_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "tls.key"
    path.write_text("secret")
    path.chmod(0)

    assert not await is_one_change(path, path.touch)
