"""The path in one process: it serves, its stages are found, and the check tells dearer from as dear."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import regression, stages
from benchmarks.in_process import InProcess, run


@pytest.mark.parametrize("varies", [False, True])
def test_the_path_answers_every_call(varies: bool) -> None:
    """Counted as OK by the bridge's own figures, metrics and log included."""

    async def serve(bridge: InProcess) -> list[int]:
        async with asyncio.timeout(10):
            await bridge.serve(3)
        return bridge.route.figures.handled

    handled: list[int] = run(serve, varies=varies)

    assert 3 * 16 == handled[0]
    assert 3 * 16 == sum(handled)


def test_every_stage_is_found_and_the_stages_make_up_the_whole() -> None:
    """A function that moved would leave its stage empty."""
    profile = stages.profile(varies=False, rounds=2)

    assert [*stages.STAGES, "rescue, admit, retry", "deadline", stages.REST] == list(profile)[:-1]
    assert profile[stages.WHOLE] == pytest.approx(sum(list(profile.values())[:-1]))


def test_a_dearer_call_is_told() -> None:
    """Beyond the allowance, with both figures."""
    (line,) = regression.verdicts({"same": 50.0, "other": 50.0}, {"same": 40.0, "other": 49.0})

    assert "same: a call costs 50.00 calibration loops, 1.25 times the baseline of 40.00" == line


def test_a_case_without_baseline_is_not_judged() -> None:
    """Another version of Python has none at first."""
    assert [] == regression.verdicts({"same": 50.0}, {})
