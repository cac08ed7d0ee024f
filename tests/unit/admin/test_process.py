from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bridge.admin.process import process_snapshot


@pytest.mark.skipif(sys.platform != "linux", reason="reads procfs")
def test_linux_tells_everything() -> None:
    """Memory, files and start are this process's own."""
    snapshot = process_snapshot()

    assert snapshot.resident_bytes is not None
    assert snapshot.virtual_bytes is not None
    assert 1 << 20 < snapshot.resident_bytes < snapshot.virtual_bytes
    assert snapshot.open_files == len(os.listdir("/proc/self/fd")) - 1
    assert snapshot.started is not None
    assert snapshot.started > 1.5e9


def test_a_name_with_spaces_and_parentheses_is_no_obstacle(tmp_path: Path) -> None:
    """The fields are counted from the end of the process's name."""
    fields = ["S", *["0"] * 18, "500", "4096000", "100", "0"]
    (tmp_path / "self/fd").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "self/fd" / str(number)).touch()
    (tmp_path / "self/stat").write_text(f"1 (a) b) (c) {' '.join(fields)}\n")
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1000\n")
    snapshot = process_snapshot(tmp_path)

    assert 1000 + 500 / os.sysconf("SC_CLK_TCK") == snapshot.started
    assert 4096000 == snapshot.virtual_bytes
    assert 100 * os.sysconf("SC_PAGE_SIZE") == snapshot.resident_bytes
    assert 3 == snapshot.open_files


def test_without_procfs_the_rest_is_told(tmp_path: Path) -> None:
    """Elsewhere than on Linux there are processor time and the limit of files."""
    snapshot = process_snapshot(tmp_path)

    assert snapshot.cpu_seconds > 0
    assert (None, None, None) == (
        snapshot.started,
        snapshot.resident_bytes,
        snapshot.open_files,
    )
