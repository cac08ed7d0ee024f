"""The costs on docs/scaling.md: their formulas, and that the page has the numbers that they give."""

from __future__ import annotations

from math import ceil, inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.costs import MILLION, Machines, Work, main, table, usual

PAGE = Path(__file__).parent.parent / "docs/scaling.md"

works = st.builds(Work, duration=st.floats(0.001, 60), memory=st.floats(0.125, 10))
machines = st.builds(
    Machines,
    name=st.just("x"),
    hourly=st.floats(0.001, 5),
    at_once=st.floats(0.5, 500),
    least=st.integers(1, 5),
    per_call=st.sampled_from([0.0, 0.0000002]),
    most=st.sampled_from([inf, 40.0]),
)


def test_a_function_costs_its_requests_and_its_gigabyte_seconds() -> None:
    """By hand: 0.20 $, and a million times 0.1 s times 1 GB at 0.0000133334 $."""
    assert 1.53 == pytest.approx(MILLION * Work(duration=0.1, memory=1).on_lambda, abs=0.01)


def test_machines_are_as_many_as_calls_at_once_need() -> None:
    """1000 calls/s of 0.1 s are 100 at once. At 10 for each machine, of which 60 % are planned for, that is 17."""
    found = Machines("x", hourly=1.0, at_once=10, least=2)

    assert 17 == found.needed(1000, Work(0.1, 1))
    assert 2 == found.needed(1, Work(0.1, 1))
    assert 25 == Machines("x", hourly=1.0, at_once=1000, least=1, most=40).needed(1000, Work(0.1, 1))


@given(machines, works)
def test_from_the_break_even_on_machines_are_never_dearer(found: Machines, work: Work) -> None:
    """Looked at where they are dearest: just behind each step."""
    rate = found.break_even(work)
    if rate == inf:
        return
    first = ceil(rate / found.full(work))
    steps = [rate, *(found.full(work) * number * 1.000001 for number in range(first, first + 20))]

    limit = MILLION * work.on_lambda * 1.0001
    assert [] == [one for one in steps if one >= rate and found.per_million(one, work) > limit]


@given(machines, works)
def test_just_below_the_break_even_they_are_dearer(found: Machines, work: Work) -> None:
    rate = found.break_even(work)
    if rate == inf:
        return

    assert found.per_million(rate * 0.999, work) > MILLION * work.on_lambda * 0.999


@given(machines, works)
def test_without_a_break_even_they_are_dearer_when_full(found: Machines, work: Work) -> None:
    if found.break_even(work) != inf:
        return

    full = found.least * found.full(work)
    assert found.per_million(full * 1000, work) > MILLION * work.on_lambda * 0.999


@pytest.mark.parametrize(("rate", "duration", "memory"), [(200.0, 0.05, 0.5), (20.0, 2.0, 1.0)])
def test_the_page_has_what_the_script_prints(
    rate: float, duration: float, memory: float, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--rate", f"{rate:g}", "--duration", f"{duration:g}", "--memory", f"{memory:g}"]

    assert 0 == main(arguments)
    printed = capsys.readouterr().out
    assert table(rate, Work(duration, memory), 16.0) == printed
    assert printed in PAGE.read_text()
    assert f"python -m benchmarks.costs {' '.join(arguments)}\n" in PAGE.read_text()


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--rate", "0"])


def test_every_alternative_has_a_price() -> None:
    assert all(one.hourly > 0 and one.least > 0 for one in usual(16))
