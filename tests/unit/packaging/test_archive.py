"""The zip: the same bytes for the same files, and nothing that is half done."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from bridge.packaging.archive import partial_file, unpack, write_zip
from bridge.packaging.contents import PackedFile, files_below
from bridge.packaging.failure import PackagingFailed
from bridge.packaging.image import replace_folder
from bridge.packaging.marks import is_our_zip, is_partial
from tests.support.folders import filled


class Steps:
    """Progress that is kept."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def begin(self, what: str) -> None:
        pass

    def advance(self, done: int, whole: int) -> None:
        self.steps.append((done, whole))


def test_times_order_and_odd_permissions_leave_no_trace(tmp_path: Path) -> None:
    folder = filled(tmp_path / "f", {"b.txt": "b", "a/c.txt": "c", "tool": "t"})
    (folder / "tool").chmod(0o711)
    files = files_below(folder)
    write_zip(files, tmp_path / "one.zip", Steps())
    (folder / "tool").chmod(0o755)
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    write_zip(dict(reversed(files_below(folder).items())), tmp_path / "two.zip", Steps())

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert {"a/c.txt": 0o100644, "b.txt": 0o100644, "tool": 0o100755} == {
            entry.filename: entry.external_attr >> 16 for entry in packed.infolist()
        }
        assert {(1980, 1, 1, 0, 0, 0)} == {entry.date_time for entry in packed.infolist()}


def test_a_zip_is_unpacked_with_its_permissions(tmp_path: Path) -> None:
    folder = filled(tmp_path / "f", {"tool": "t", "a/b": "b"})
    (folder / "tool").chmod(0o700)
    write_zip(files_below(folder), tmp_path / "a.zip", Steps())
    unpack(tmp_path / "a.zip", tmp_path / "task")

    assert (0o755, 0o644) == tuple((tmp_path / "task" / name).stat().st_mode & 0o777 for name in ("tool", "a/b"))
    assert is_our_zip(tmp_path / "a.zip")


def test_progress_counts_the_bytes_of_all_files(tmp_path: Path) -> None:
    """Piece by piece: one large file may be most of a package."""
    steps = Steps()
    folder = filled(tmp_path / "f", {"a": "12345", "b": "", "c": "123", "d": bytes(3 << 20)})
    write_zip(files_below(folder), tmp_path / "a.zip", steps)
    whole = 8 + (3 << 20)

    assert [(5, whole), (8, whole), *((8 + (n << 20), whole) for n in (1, 2, 3))] == steps.steps


@pytest.mark.parametrize("change", ["grown", "shrunk", "gone", "a link", "a pipe"])
def test_a_file_that_changes_while_it_is_packed_is_told(tmp_path: Path, change: str) -> None:
    """A link that takes a file's place is not followed, and a pipe does not hold us."""
    folder = filled(tmp_path / "f", {"a": "12345"})
    file = folder / "a"
    contents = files_below(folder)
    if change in ("grown", "shrunk"):
        file.write_text("1" if change == "shrunk" else "123456")
    else:
        file.unlink()
    if change == "a link":
        file.symlink_to(filled(tmp_path, {"other": "54321"}) / "other")
    elif change == "a pipe":
        os.mkfifo(file)
    with pytest.raises(PackagingFailed, match="changed while it was packed"):
        write_zip(contents, tmp_path / "a.zip", Steps())


def test_a_large_file_needs_no_memory_of_its_size(tmp_path: Path) -> None:
    """It is read in pieces, and its entry is as any other's."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    write_zip({"large": PackedFile(tmp_path / "large", 64 << 20, is_program=False)}, tmp_path / "a.zip", Steps())

    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert 64 << 20 == packed.getinfo("large").file_size
    assert (tmp_path / "a.zip").stat().st_size < 1 << 20


def test_what_is_not_moved_is_gone(tmp_path: Path) -> None:
    with partial_file(tmp_path / "out/a.zip") as partial:
        partial.write_text("half")
        assert is_partial(partial.name)

    assert [] == list((tmp_path / "out").iterdir())


def test_a_folder_takes_the_place_of_the_former_one(tmp_path: Path) -> None:
    filled(tmp_path, {"out/old": "", "new/fresh": ""})
    replace_folder(tmp_path / "new", tmp_path / "out")

    assert ["out"] == [path.name for path in tmp_path.iterdir()]
    assert ["fresh"] == [path.name for path in (tmp_path / "out").iterdir()]


def test_a_folder_that_cannot_be_moved_leaves_the_former_one(tmp_path: Path) -> None:
    filled(tmp_path, {"out/old": ""})
    with pytest.raises(OSError):
        replace_folder(tmp_path / "gone", tmp_path / "out")

    assert ["out"] == [path.name for path in tmp_path.iterdir()]
    assert ["old"] == [path.name for path in (tmp_path / "out").iterdir()]
