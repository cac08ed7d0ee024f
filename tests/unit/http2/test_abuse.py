from __future__ import annotations

import pytest

from bridge.http2.abuse import Bucket, Budgets
from bridge.http2.events import ErrorCode, ViolationKind
from bridge.http2.faults import ConnectionFault
from bridge.http2.interface import EngineLimits


def test_bucket_is_full_at_first() -> None:
    bucket = Bucket(3, rate=1.0)

    assert [True, True, True, False] == [bucket.spend(now=100.0) for _ in range(4)]


def test_bucket_fills_with_time_and_no_further_than_its_size() -> None:
    bucket = Bucket(2, rate=0.5)
    bucket.spend(now=0.0)
    bucket.spend(now=0.0)
    after_two_seconds = [bucket.spend(now=2.0) for _ in range(2)]
    after_an_hour = [bucket.spend(now=3602.0) for _ in range(3)]

    assert [True, False] == after_two_seconds
    assert [True, True, False] == after_an_hour


def test_budget_spent_is_a_fault_that_says_which() -> None:
    budgets = Budgets(EngineLimits(reset_burst=1))
    budgets.reset_received(0.0, 1, now=0.0)
    with pytest.raises(ConnectionFault) as caught:
        budgets.reset_received(0.0, 1, now=0.0)

    assert (ErrorCode.ENHANCE_YOUR_CALM, ViolationKind.RESETS, "too_many_resets") == (
        caught.value.code,
        caught.value.kind,
        caught.value.reason,
    )


def test_buckets_are_apart() -> None:
    budgets = Budgets(EngineLimits(reset_burst=1))
    budgets.reset_received(0.0, 1, now=0.0)
    budgets.reset_sent(1, now=0.0)
    budgets.settings_received(1, now=0.0)


def test_a_bad_ping_does_not_move_the_last_good_one() -> None:
    """gRFC A8: 0 s is good, 6 s is a strike, 10 s is good again."""
    budgets = Budgets(EngineLimits(min_ping_interval=10.0))
    for second in range(0, 120, 20):
        budgets.ping(0, now=second)
        if second < 40:
            budgets.ping(0, now=second + 6)
        budgets.ping(0, now=second + 10)
    budgets.ping(0, now=200.0)
    with pytest.raises(ConnectionFault):
        budgets.ping(0, now=201.0)


def test_body_gives_small_data_back_up_to_the_budget() -> None:
    """A long body does not buy an unlimited flood."""
    budgets = Budgets(EngineLimits(small_data_budget=160))
    received = 1_000_000
    for _ in range(10):
        received += 1
        budgets.small_data(1, received)
    with pytest.raises(ConnectionFault):
        budgets.small_data(1, received + 1)
