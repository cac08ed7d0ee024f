"""Spread: quantiles that are real values, near the exact ones, also of several processes together."""

from __future__ import annotations

from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rpc.spread import Spread

SECONDS = st.floats(0.0, 2000.0, allow_nan=False)
PARTS = (0.0, 0.5, 0.9, 0.99, 1.0)


def spread(*values: float) -> Spread:
    found = Spread()
    found.observe(values)
    return found


def test_nothing_has_no_quantiles() -> None:
    assert Spread().quantiles(PARTS) is None


def test_one_call_is_every_quantile() -> None:
    """A call of 10.05 s has no p50 of 20 s."""
    assert [10.05] * 3 == spread(10.05).quantiles((0.5, 0.9, 0.99))


def test_a_slow_call_among_quick_ones_is_only_the_last_quantile() -> None:
    assert [0.01, 0.01, 5.0] == spread(*[0.01] * 99, 5.0).quantiles((0.5, 0.99, 1.0))


@given(st.lists(SECONDS, min_size=1, max_size=300))
def test_each_quantile_is_a_value_that_was_measured(values: list[float]) -> None:
    """At most 5 % above the exact one (nearest rank), and never below it."""
    found, rising = spread(*values).quantiles(PARTS), sorted(values)

    assert found is not None
    for part, value in zip(PARTS, found, strict=True):
        exact = rising[max(1, ceil(part * len(values))) - 1]
        assert value in values
        assert exact <= value <= max(exact * 1.0501, 1.03e-6)


@given(st.lists(SECONDS, max_size=100), st.lists(SECONDS, max_size=100))
def test_two_processes_add_up(ours: list[float], theirs: list[float]) -> None:
    """As if all values had come to one, after a journey as JSON too."""
    travelled = msgspec.json.decode(msgspec.json.encode(spread(*theirs)), type=Spread)

    assert spread(*ours, *theirs) == spread(*ours) + travelled


@given(st.lists(st.floats(0.0, 86_400.0, allow_nan=False), max_size=500))
def test_it_is_small_whatever_the_values(values: list[float]) -> None:
    assert len(spread(*values).counts) <= min(len(values), 520)


def test_a_copy_is_its_own() -> None:
    one = spread(1.0)
    other = one.copy()
    other.observe([1.0])

    assert (1, 2) == (one.count, other.count)


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_the_smallest_values_are_values_too(value: float) -> None:
    assert [value] == spread(value).quantiles((0.5,))
