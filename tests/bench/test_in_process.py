"""The path in one process: it serves, its stages are found, and the check tells dearer from as dear."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import regression, stages
from benchmarks.in_process import InProcess, run
from benchmarks.steps import steps

ALLOWED = (regression.ALLOWED["steps"] - 1) / 2


@pytest.mark.parametrize("varies", [False, True])
def test_the_path_answers_every_call(varies: bool) -> None:
    """Counted as OK by the bridge's own figures, metrics and log included."""

    async def serve(bridge: InProcess) -> list[int]:
        async with asyncio.timeout(10):
            await bridge.serve(3)
        bridge.route.figures.tally()
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
    """By its own allowance for each measure, with both figures."""
    found = {"same": {"steps": 1006.0, "loops": 50.0}, "other": {"steps": 1004.0, "loops": 50.0}}
    baseline = {"same": {"steps": 1000.0, "loops": 40.0}, "other": {"steps": 1000.0, "loops": 30.0}}

    assert [
        "same: a call costs 1006 steps, 1.006 times the baseline of 1000",
        "other: a call costs 50 loops, 1.667 times the baseline of 30",
    ] == regression.verdicts(found, baseline)


def test_a_case_without_baseline_is_not_judged() -> None:
    """Another version of Python has none at first."""
    assert [] == regression.verdicts({"same": {"steps": 50.0}}, {})
    assert "nothing was judged" in regression.no_baseline("3.16", ["3.11", "3.15"])
    assert "no figures for Python 3.16, only for 3.11, 3.15" in regression.no_baseline("3.16", ["3.15", "3.11"])


@pytest.mark.parametrize("varies", [False, True])
def test_steps_are_the_same_each_time(varies: bool) -> None:
    """Far less than the check allows, whatever comes round once a second or once in so many calls."""
    one, other = steps(varies=varies), steps(varies=varies)
    for _ in range(regression.TRIES - 1):  # as the check does: on a busy machine more comes round in each batch
        if one != pytest.approx(other, rel=ALLOWED):
            one, other = min(one, steps(varies=varies)), min(other, steps(varies=varies))

    assert one == pytest.approx(other, rel=ALLOWED)
    assert 1000 < one < 10_000
