"""The sizes on docs/scaling.md: their formulas, and that the page has the numbers that they give."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.costs import FARGATE_GB_HOUR, FARGATE_VCPU_HOUR, HOUR, Work
from benchmarks.sizing import Fleet, Measured, main

PAGE = Path(__file__).parent.parent / "docs/scaling.md"
MEASURED = Measured(cpu=60e-6, memory=100.0, connection=14.0, call=15.0)


def test_a_fleet_by_hand() -> None:
    """100,000 calls/s of 60 us are 6 cores, planned as 10. At 0.1 s a call, 10,000 are in flight."""
    fleet = Fleet(100_000, 0.1, MEASURED)

    assert (10, 10, 10_000, 2000) == (round(fleet.cores), fleet.processes, fleet.at_once, fleet.max_concurrency)
    assert 10_000 == fleet.quota
    assert (90.0, 0.0) == (fleet.seconds_to_grow(), fleet.seconds_to_grow(10))
    assert 2 == Fleet(1, 0.1, MEASURED).processes


def test_short_calls_meet_the_quota_of_calls_a_second_first() -> None:
    assert 1000 == Fleet(10_000, 0.01, MEASURED).quota


@given(st.floats(1, 1e7), st.floats(0.001, 60))
def test_a_fleet_has_room_for_its_calls(rate: float, duration: float) -> None:
    fleet = Fleet(rate, duration, MEASURED)

    assert fleet.processes >= 2
    assert fleet.cores <= fleet.processes
    assert fleet.max_concurrency * fleet.processes >= 2 * fleet.at_once
    assert fleet.quota >= max(ceil(rate * duration), rate / 10)


def test_the_page_has_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rate", "10000", "1000000", "--duration", "0.05"]

    assert 0 == main(arguments)
    assert capsys.readouterr().out in PAGE.read_text()
    assert f"python -m benchmarks.sizing {' '.join(arguments)}\n" in PAGE.read_text()


def test_the_page_has_the_benchmarks_figure_and_the_price_of_the_fleet() -> None:
    page = " ".join(PAGE.read_text().split())
    fleet = Fleet(1_000_000, 0.05, Measured.read())
    microseconds = 1e6 * fleet.measured.cpu

    assert f"costs {microseconds:.0f} us of CPU" in page
    assert f"costs {microseconds:.0f} us of a core" in page
    assert f"{fleet.processes} processes with one core, {fleet.at_once:,} calls in flight" in page
    assert f"quota is {fleet.quota:,}" in page
    assert f"cost {fleet.processes * (FARGATE_VCPU_HOUR + 2 * FARGATE_GB_HOUR):.2f} $ an hour" in page
    assert f"cost {Work(0.05, 0.5).on_lambda * fleet.rate * HOUR:,.0f} $ an hour" in page
    assert f"${microseconds / HOUR * FARGATE_VCPU_HOUR:.4f} on Fargate" in page


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--rate", "0"])
