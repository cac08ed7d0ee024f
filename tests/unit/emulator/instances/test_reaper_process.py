"""The small program that outlives a killed bridge."""

from __future__ import annotations

from bridge.emulator.instances import reaper_process


def test_what_was_not_released_remains() -> None:
    assert {2, 4} == reaper_process.outlive(["+1\n", "+2\n", "-1\n", "+3\n", "-3\n", "+4\n", "-9\n"])
