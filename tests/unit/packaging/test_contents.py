"""Sizes of a package's folders."""

from __future__ import annotations

from pathlib import Path

from bridge.packaging.contents import PackedFile, files_below, largest_folders, total_size
from tests.support.folders import filled


def of(sizes: dict[str, int]) -> dict[str, PackedFile]:
    return {path: PackedFile(Path(path), size, is_program=False) for path, size in sizes.items()}


def test_the_largest_folders_come_first_and_no_byte_counts_twice() -> None:
    contents = of({"app.py": 1, "a/b/c/d.bin": 50, "a/b/e.bin": 5, "a/x.bin": 20, "z/y.bin": 20, "q/r/s": 2, "k/l": 3})

    assert (("a/b/", 55), ("a/", 20), ("z/", 20), ("k/", 3), ("q/r/", 2)) == largest_folders(contents)
    assert (("a/b/", 55),) == largest_folders(contents, 1)
    assert 101 == total_size(contents)


def test_files_of_the_root_have_a_name() -> None:
    assert (("files of the function's own folder", 3),) == largest_folders(of({"a": 1, "b": 2}))


def test_links_in_our_own_folders_do_not_count(tmp_path: Path) -> None:
    folder = filled(tmp_path, {"a/b": "1"})
    (folder / "link").symlink_to("a/b")

    assert ["a/b"] == list(files_below(folder))
