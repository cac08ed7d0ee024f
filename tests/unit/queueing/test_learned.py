"""learned: how many calls a function takes, told by its throttles. The function and its callers are simulated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.queueing.learned import LIMIT_FORGOTTEN_AFTER, LONGEST_PAUSE, NEVER, LearnedLimits, Pauses
from bridge.rpc.errors import Quota
from tests.support.simulated_function import Quotas, SimulatedFunction, Simulation

BEFORE = 0.0
"""When calls were sent, in tests that do not count rounds."""


def _throttle(
    limits: LearnedLimits,
    others: int,
    *,
    now: float,
    sent: float = BEFORE,
    retry_after: float | None = None,
    quota: Quota = Quota.FUNCTION,
) -> None:
    limits.throttled(others, sent=sent, now=now, retry_after=retry_after, quota=quota)


# -- concurrency -------------------------------------------------------------------------------------------------------


def test_there_is_no_limit_at_first() -> None:
    limits = LearnedLimits()

    assert limits.concurrency is None
    assert 0 == limits.seconds_until_open(10_000, now=1.0)
    assert not limits.has_any(now=1.0)


def test_the_first_throttle_sets_nine_tenths_of_what_is_in_flight() -> None:
    limits = LearnedLimits()
    _throttle(limits, 99, now=1.0)

    assert 90 == limits.concurrency
    assert (0, NEVER) == (limits.seconds_until_open(89, now=1.0), limits.seconds_until_open(90, now=1.0))


def test_throttles_of_one_round_trip_take_a_tenth_once() -> None:
    """Those that were sent before the limit fell say nothing about the new one."""
    limits = LearnedLimits()
    _throttle(limits, 99, now=1.0)
    _throttle(limits, 98, now=1.01)
    once = limits.concurrency
    _throttle(limits, 98, now=1.03, sent=1.02)

    assert (90, 81) == (once, limits.concurrency)


def test_what_is_left_in_flight_is_what_the_function_takes() -> None:
    """A burst of 64 calls at 8 instances is understood at once: 56 throttles leave 8 in flight."""
    limits = LearnedLimits()
    for others in range(63, 7, -1):
        _throttle(limits, others, now=1.0)

    assert 8 == limits.concurrency


def test_a_limit_is_never_below_one() -> None:
    limits = LearnedLimits()
    for number in range(20):
        _throttle(limits, 0, now=float(number), sent=number - 0.5)

    assert 1 == limits.concurrency


def test_a_limit_that_nobody_meets_is_forgotten() -> None:
    limits = LearnedLimits()
    _throttle(limits, 8, now=1.0)

    assert limits.has_any(now=1.0 + LIMIT_FORGOTTEN_AFTER)
    assert not limits.has_any(now=2.0 + LIMIT_FORGOTTEN_AFTER)
    assert limits.concurrency is None


def test_a_burst_after_a_quiet_time_meets_no_old_limit() -> None:
    """Meeting it now does not make it younger."""
    limits = LearnedLimits()
    _throttle(limits, 8, now=1.0)
    _throttle(limits, 8, now=1.0, quota=Quota.RATE)

    assert 0 == limits.seconds_until_open(50, now=2.0 + LIMIT_FORGOTTEN_AFTER)


def test_a_limit_that_is_met_is_kept() -> None:
    limits = LearnedLimits()
    _throttle(limits, 8, now=1.0)
    limits.seconds_until_open(8, now=50.0)

    assert limits.has_any(now=100.0)


def test_calls_below_the_limit_do_not_raise_it() -> None:
    """They say only that the function takes fewer."""
    limits = LearnedLimits()
    _throttle(limits, 10, now=1.0)
    for number in range(1000):
        limits.accepted(3, sent=2.0, now=2.0 + number / 1000)

    assert 9 == limits.concurrency


@pytest.mark.parametrize("capacity", [1, 2, 8, 50])
@pytest.mark.parametrize("seconds", [0.005, 0.1])
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_overload_costs_no_throughput_and_few_invocations(
    capacity: int, seconds: float, retry_after: float | None
) -> None:
    """At least 95 % of what the function can do, and nobody waits longer than twice the mean."""
    simulation = Simulation()
    function = SimulatedFunction(simulation, Quotas(capacity, retry_after=retry_after), seconds=seconds)
    function.callers(8 * capacity)
    simulation.run(duration := 300 * seconds)
    outcomes = function.outcomes
    mean = sum(outcomes.waits) / len(outcomes.waits)

    assert len(outcomes.waits) >= 0.95 * duration * capacity / seconds
    assert outcomes.sent - 8 * capacity <= 1.05 * len(outcomes.waits)
    assert max(outcomes.waits) <= 2 * mean


@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_the_limit_is_found_again_within_three_seconds(retry_after: float | None) -> None:
    """When the function takes fewer or more calls while it runs."""
    simulation = Simulation()
    quota = Quotas(8, retry_after=retry_after)
    function = SimulatedFunction(simulation, quota)
    function.callers(64)
    for capacity in (4, 8, 2, 16, 8, 1, 8):
        simulation.run(5)
        quota.concurrency = capacity
        simulation.run(3)
        assert function.line.limits.concurrency in (capacity - 1, capacity, capacity + 1)
        before = len(function.outcomes.waits)
        simulation.run(1)
        assert len(function.outcomes.waits) - before >= 0.85 * capacity / function.seconds


@pytest.mark.parametrize("growth", [2, 10])
def test_a_cold_function_of_long_calls_is_followed_as_it_grows(growth: int) -> None:
    """Lambda lets it grow by so many calls a second. A round of calls takes a second, so there are few of them."""
    simulation = Simulation()
    quota = Quotas(20)
    function = SimulatedFunction(simulation, quota, seconds=1.0)
    function.callers(1000)
    possible = 0
    for _ in range(40):
        simulation.run(1)
        possible += quota.concurrency or 0
        quota.concurrency = (quota.concurrency or 0) + growth
    outcomes = function.outcomes

    assert len(outcomes.waits) >= 0.7 * possible
    assert outcomes.sent - 1000 <= 1.05 * len(outcomes.waits)


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("concurrency", [8, 16, 100])
def test_functions_share_an_account_limit_fairly(concurrency: int, retry_after: float | None) -> None:
    """The second one comes when the first has everything. After a while none has nearly everything."""
    simulation = Simulation()
    quota = Quotas(concurrency, kind=Quota.ACCOUNT, retry_after=retry_after)
    one, other = (SimulatedFunction(simulation, quota) for _ in range(2))
    one.callers(4 * concurrency)
    simulation.run(5)
    other.callers(4 * concurrency)
    simulation.run(20)
    before = [len(function.outcomes.waits) for function in (one, other)]
    sent = one.outcomes.sent + other.outcomes.sent
    simulation.run(30)
    answered = [len(function.outcomes.waits) - was for function, was in zip((one, other), before, strict=True)]

    assert sum(answered) >= 0.9 * 30 * concurrency / one.seconds
    assert min(answered) >= 0.2 * sum(answered)
    assert one.outcomes.sent + other.outcomes.sent - sent <= 1.1 * sum(answered)


@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_an_outage_is_asked_about_now_and_then(retry_after: float | None) -> None:
    """200 callers whose calls are all throttled for 10 s cause few invocations, and all is well within 2 s."""
    simulation = Simulation()
    function = SimulatedFunction(simulation, Quotas(100, retry_after=retry_after))
    function.callers(200)
    simulation.run(5)
    answered, sent = len(function.outcomes.waits), function.outcomes.sent
    function.is_down = True
    simulation.run(10)
    function.is_down = False
    down = function.outcomes.sent - sent
    end = simulation.now
    simulation.run(2)

    assert down <= 0.2 * (answered + 200)
    assert function.outcomes.answered(end, end + 2) >= 900
    assert function.outcomes.answered(end + 1.5, end + 2) >= 0.8 * 0.5 * 1000


def test_a_lone_call_that_is_throttled_is_not_repeated_at_once() -> None:
    """Nothing in flight tells when there is room again. The pauses double, up to a bound."""
    limits = LearnedLimits(lambda: 1.0)
    now, pauses = 1.0, []
    for _ in range(8):
        _throttle(limits, 0, now=now, sent=now - 0.01)
        pauses.append(limits.seconds_until_open(0, now=now))
        now += pauses[-1]

    assert pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5]) == pauses


# -- Retry-After -------------------------------------------------------------------------------------------------------


def test_a_lone_throttled_call_waits_for_retry_after() -> None:
    limits = LearnedLimits()
    _throttle(limits, 0, now=1.0, retry_after=3.0)

    assert 3.0 == limits.seconds_until_open(0, now=1.0)
    assert 0 == limits.seconds_until_open(0, now=4.0)


def test_retry_after_does_not_stop_the_calls_that_are_taken() -> None:
    """The place of a call that has ended may be used. Only more is not tried."""
    limits = LearnedLimits()
    _throttle(limits, 8, now=1.0, retry_after=5.0)
    now = 1.0
    for _ in range(49):
        now += 0.1
        for _ in range(10):
            limits.accepted(8, sent=now - 0.001, now=now)
    within = limits.concurrency
    for _ in range(20):
        now += 0.1
        for _ in range(10):
            limits.accepted(8, sent=now - 0.001, now=now)

    assert 8 == within
    assert 8 < (limits.concurrency or 0)
    assert 0 == limits.seconds_until_open(7, now=1.0)


@pytest.mark.parametrize("quota", [Quota.FUNCTION, Quota.RATE])
def test_a_very_long_retry_after_is_asked_about_sooner(quota: Quota) -> None:
    limits = LearnedLimits()
    _throttle(limits, 0, now=1.0, retry_after=86_400.0, quota=quota)

    assert LONGEST_PAUSE == limits.seconds_until_open(0, now=1.0)


# -- rate --------------------------------------------------------------------------------------------------------------


def test_a_rate_leaves_the_concurrency_alone() -> None:
    limits = LearnedLimits()
    _throttle(limits, 20, now=1.0, quota=Quota.RATE)

    assert limits.concurrency is None
    assert 20 == limits.rate
    assert 0 < limits.seconds_until_open(0, now=1.0) < 0.1


@pytest.mark.parametrize(("rate", "callers"), [(20, 64), (50, 32), (200, 64), (1000, 400)])
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_calls_are_paced(rate: int, callers: int, retry_after: float | None) -> None:
    """A rate limit costs little of the rate, and few invocations."""
    simulation = Simulation()
    function = SimulatedFunction(simulation, Quotas(None, rate, retry_after=retry_after))
    function.callers(callers)
    simulation.run(20)
    outcomes = function.outcomes

    assert function.line.limits.concurrency is None
    assert len(outcomes.waits) >= 0.85 * 20 * rate
    assert outcomes.sent - callers <= 1.05 * len(outcomes.waits)


def test_a_rate_that_rises_is_found() -> None:
    simulation = Simulation()
    quota = Quotas(None, 20)
    function = SimulatedFunction(simulation, quota)
    function.callers(64)
    simulation.run(20)
    quota.rate = 100
    simulation.run(30)
    before = len(function.outcomes.waits)
    simulation.run(10)

    assert len(function.outcomes.waits) - before >= 0.8 * 10 * 100


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.2, 3)), min_size=1, max_size=5),
    st.integers(1, 80),
    st.sampled_from([None, 0.0, 1.0]),
    st.floats(0.002, 0.3),
)
def test_nobody_is_forgotten(
    quotas: list[tuple[int, float]], callers: int, retry_after: float | None, seconds: float
) -> None:
    """Whatever the function takes: calls go on, and none waits for ever."""
    simulation = Simulation()
    quota = Quotas(quotas[0][0], retry_after=retry_after)
    function = SimulatedFunction(simulation, quota, seconds=seconds)
    function.callers(callers)
    for quota.concurrency, lasts in quotas:
        simulation.run(lasts)
    simulation.run(2 + 4 * callers * seconds)
    before = len(function.outcomes.waits)
    simulation.run(2 + 4 * callers * seconds)

    assert len(function.outcomes.waits) - before >= callers
    assert function.line.in_flight + len(function.member.turns) <= callers


# -- calls that share invocations --------------------------------------------------------------------------------------


def test_a_throttle_of_a_shared_invocation_is_a_pause_and_no_limit() -> None:
    """It says nothing about how many calls the function takes."""
    limits = Pauses(random=lambda: 1.0)
    _throttle(limits, 10, now=1.0)

    assert limits.concurrency is None
    assert 0.05 == pytest.approx(limits.seconds_until_open(10_000, now=1.0))
    assert 0 == limits.seconds_until_open(10_000, now=1.06)
    assert not limits.has_any(now=1.06)


def test_many_calls_learn_of_one_throttle_and_wait_once() -> None:
    limits = Pauses(random=lambda: 1.0)
    for _ in range(100):
        _throttle(limits, 99, now=1.0, sent=0.5)
    assert 0.05 == pytest.approx(limits.seconds_until_open(0, now=1.0))

    _throttle(limits, 99, now=2.0, sent=1.5)
    assert 0.1 == pytest.approx(limits.seconds_until_open(0, now=2.0))
    limits.accepted(1, sent=2.5, now=3.0)
    _throttle(limits, 99, now=4.0, sent=3.5)
    assert 0.05 == pytest.approx(limits.seconds_until_open(0, now=4.0))


def test_a_long_retry_after_does_not_keep_calls_from_instances_that_are_attached() -> None:
    limits = Pauses()
    _throttle(limits, 0, now=1.0, retry_after=30.0)

    assert limits.seconds_until_open(0, now=1.0) <= 0.5
