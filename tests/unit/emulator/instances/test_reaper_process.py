"""The small program that outlives a killed bridge."""

from __future__ import annotations

from bridge.emulator.instances import reaper_process


def test_what_was_not_released_remains() -> None:
    lines = [b"+1 /a\n", b"+2 /b c\xff\n", b"-1\n", b"+3 \n", b"-3\n", b"+4 \n", b"-9\n"]

    assert {2: b"/b c\xff", 4: b""} == reaper_process.outlive(lines)
