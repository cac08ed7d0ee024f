"""Which files a function has written, by the times at which it ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.emulator.instances import busy_times
from bridge.emulator.instances.busy_times import BusyTimes, WrittenFiles
from bridge.emulator.instances.source_tree import FileChange

FOLDER = Path("/code")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(busy_times, "_now", lambda: now[0])
    return now


def ran(clock: list[float], *times: tuple[float, float]) -> BusyTimes:
    busy = BusyTimes()
    for begun, ended in times:
        clock[0] = begun
        busy.begin()
        clock[0] = ended
        busy.end()
    return busy


@pytest.mark.parametrize(
    ("moment", "had"),
    [(999.9, False), (999.96, True), (1001, True), (1002, True), (1002.1, False), (1005.0, True), (1007, False)],
)
def test_a_moment_lies_in_an_invocation_or_not(clock: list[float], moment: float, had: bool) -> None:
    """The kernel's clock for files is a little late."""
    busy = ran(clock, (1000, 1002), (1004, 1006))

    assert had == busy.had(moment)


def test_invocations_at_the_same_time_are_one(clock: list[float]) -> None:
    busy = BusyTimes()
    busy.begin()
    clock[0] = 1001
    busy.begin()
    busy.end()
    clock[0] = 1003

    assert busy.had(1002)
    busy.end()
    clock[0] = 1010
    assert busy.had(1002)
    assert not busy.had(1004)


def test_a_file_that_is_gone_has_no_time(clock: list[float]) -> None:
    """Then what counts is whether the function has just run."""
    busy = ran(clock, (1000, 1002))

    assert busy.had(None)
    clock[0] = 1004
    assert not busy.had(None)


def test_what_is_remembered_is_bounded(clock: list[float]) -> None:
    """And so many short invocations in a row take one place."""
    busy = ran(clock, *((1000 + n / 100, 1000.005 + n / 100) for n in range(5000)))

    assert busy.had(1000.001)
    assert 1 == len(busy._past)


@pytest.mark.parametrize(
    ("name", "at", "is_code", "is_new", "is_the_authors"),
    [
        ("state.json", 1001, False, False, False),
        ("state.json", 1003, False, False, True),
        ("app.py", 1001, True, False, True),
        ("made.py", 1001, True, True, False),
        ("made.py", 1003, True, True, True),
    ],
)
def test_data_and_new_files_of_a_busy_function_are_its_own(
    clock: list[float], name: str, at: float, is_code: bool, is_new: bool, is_the_authors: bool
) -> None:
    """Code that was there before is saved by its author, even while the function runs."""
    changes = [FileChange(name, at, is_code=is_code, is_new=is_new)]
    found = WrittenFiles().without(changes, FOLDER, [(FOLDER, ran(clock, (1000, 1002)))])

    assert (changes if is_the_authors else []) == found


def test_code_that_a_function_made_stays_its_own(clock: list[float]) -> None:
    """Until somebody saves it while the function does not run."""
    written, running = WrittenFiles(), [(FOLDER, ran(clock, (1000, 1002), (1004, 1006), (1010, 1012)))]
    counts = [
        bool(written.without([FileChange("made.py", at, is_code=True, is_new=is_new)], FOLDER, running))
        for at, is_new in ((1001, True), (1005, False), (1008, False), (1011, False))
    ]

    assert [False, False, True, True] == counts


def test_a_function_in_another_folder_writes_nothing_here(clock: list[float]) -> None:
    changes = [FileChange("state.json", 1001, is_code=False, is_new=False)]
    other = [(Path("/other"), ran(clock, (1000, 1002)))]
    outer = [(Path("/"), ran(clock, (1000, 1002)))]

    assert changes == WrittenFiles().without(changes, FOLDER, other)
    assert [] == WrittenFiles().without(changes, FOLDER, outer)
