from __future__ import annotations

from pathlib import Path

import pytest

from bridge.supervisor import usable_cores

FOUR = {0: None, 1: None, 2: None, 3: None}


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("900000 100000", 4),
        ("nonsense", 4),
    ],
)
def test_usable_cores_are_those_of_the_cgroup(tmp_path: Path, cpu_max: str, expected: int) -> None:
    """The quota rounded up, at least one, at most what the affinity allows."""
    (tmp_path / "cpu.max").write_text(cpu_max)

    assert expected == usable_cores(FOUR, tmp_path / "cpu.max")


def test_without_a_cgroup_all_cores_are_usable(tmp_path: Path) -> None:
    """No cpu.max: not Linux, or no quota."""
    assert 4 == usable_cores(FOUR, tmp_path / "cpu.max")
