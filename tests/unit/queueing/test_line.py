"""line: the calls of one function over all targets that lead to it, and the limits of its tenants."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from bridge.queueing.learned import NEVER
from bridge.queueing.line import (
    MEASURED_FROM,
    MOST_TENANTS,
    ONE_TENANT,
    TENANT_FORGOTTEN_AFTER,
    Line,
    Member,
    Waiter,
)
from bridge.rpc.errors import Quota
from bridge.rpc.places import Places


class Call:
    def __init__(self, connection: str = "c", tenant: Hashable = ONE_TENANT) -> None:
        self.connection = connection
        self.tenant = tenant


class Target:
    """One member of a line, and what a test does with its calls."""

    def __init__(self, line: Line[Waiter], *, max_concurrency: int = 100) -> None:
        self.line = line
        self.member: Member[Waiter] = line.member(Places())
        self.member.max_concurrency = max_concurrency
        self.member.tenant_of = lambda call: call.tenant

    def send(self, call: Call | None = None, *, now: float = 1.0) -> Call:
        call = call or Call()
        self.line.send(self.member, call, call.tenant, now=now)
        return call

    def wait(self, call: Call, *, arrived: float = 1.0) -> Waiter:
        waiter = Waiter(call, tenant=call.tenant, arrived=arrived)
        self.line.wait(self.member, waiter)
        return waiter

    def end(self, call: Call, *, now: float = 2.0) -> None:
        self.member.places.calls.discard(call)
        self.line.ended(self.member, call, call.tenant, now=now, is_accepted=True)

    def throttle(
        self, call: Call, *, now: float = 2.0, of_tenant: bool = False, retry_after: float | None = None
    ) -> None:
        self.member.places.calls.discard(call)
        self.line.throttled(
            call, call.tenant, now=now, retry_after=retry_after, quota=Quota.FUNCTION, of_tenant=of_tenant
        )


def _line() -> Line[Waiter]:
    return Line()


def test_nobody_watches_before_the_first_throttle() -> None:
    line = _line()
    target = Target(line)
    target.end(target.send())

    assert not line.is_watched


def test_targets_of_one_function_share_its_limit() -> None:
    """Two entries of the configuration that lead to it: what one learns holds for the other."""
    line = _line()
    one, other = Target(line), Target(line)
    calls = [one.send() for _ in range(5)]
    other.send()
    one.throttle(calls.pop())

    assert 5 == line.limits.concurrency
    assert not line.may_pass(other.member, ONE_TENANT, now=2.0)
    one.end(calls.pop())
    assert line.may_pass(other.member, ONE_TENANT, now=2.0)


def test_targets_of_one_function_take_turns() -> None:
    line = _line()
    one, other = Target(line), Target(line)
    first = [one.wait(Call()) for _ in range(3)]
    second = other.wait(Call())

    assert [first[0], second, first[1], first[2]] == [line.next(now=1.0) for _ in range(4)]
    assert line.next(now=1.0) is None


def test_a_target_without_room_lets_the_others_pass() -> None:
    """`max_concurrency` is a target's own."""
    line = _line()
    full, other = Target(line, max_concurrency=1), Target(line)
    running = full.send()
    waiting = full.wait(Call())
    passing = other.wait(Call())

    assert [passing, None] == [line.next(now=1.0) for _ in range(2)]
    full.end(running)
    assert waiting is line.next(now=1.0)
    assert waiting.has_place


def test_who_waits_is_not_overtaken() -> None:
    line = _line()
    target = Target(line, max_concurrency=1)
    running = target.send()
    target.wait(Call())
    target.end(running)

    assert not line.may_pass(target.member, ONE_TENANT, now=1.0)


def test_a_throttled_call_is_next() -> None:
    line = _line()
    target = Target(line)
    throttled, running = target.send(), target.send()
    target.wait(Call())
    target.throttle(throttled)
    back = Waiter(throttled, tenant=ONE_TENANT, arrived=0.0)
    line.wait_again(target.member, back)

    assert line.next(now=2.0) is None
    target.end(running)
    assert back is line.next(now=2.0)


def test_who_leaves_the_queue_is_gone() -> None:
    line = _line()
    target = Target(line)
    gone, stays = target.wait(Call()), target.wait(Call())
    line.leave(target.member, gone)

    assert stays is line.next(now=1.0)
    assert line.next(now=1.0) is None
    line.forget_old(now=1.0)
    assert not line.is_watched


def test_time_alone_opens_a_pause() -> None:
    """Then the caller must come back by itself. Where a call in flight opens the way, it need not."""
    line = _line()
    target = Target(line)
    target.throttle(target.send(), retry_after=3.0)
    target.wait(Call())
    paused = line.seconds_until_next(now=2.0)
    assert line.next(now=5.0) is not None
    target.wait(Call())

    assert (3.0, NEVER) == (paused, line.seconds_until_next(now=5.0))
    assert NEVER == _line().seconds_until_next(now=1.0)


# -- tenants -----------------------------------------------------------------------------------------------------------


def test_a_throttle_of_a_tenant_is_its_own() -> None:
    """Others are sent as before, and the function has no limit."""
    line = _line()
    target = Target(line)
    for _ in range(2):
        target.send(Call(tenant="small"))
    target.throttle(target.send(Call(tenant="small")), of_tenant=True)

    assert line.limits.concurrency is None
    assert not line.may_pass(target.member, "small", now=2.0)
    assert line.may_pass(target.member, "other", now=2.0)


def test_a_blocked_tenant_waits_until_one_of_its_calls_has_ended() -> None:
    line = _line()
    target = Target(line)
    running = target.send(Call(tenant="small"))
    target.throttle(target.send(Call(tenant="small")), of_tenant=True)
    small, other = target.wait(Call(tenant="small")), target.wait(Call(tenant="other"))

    assert [other, None] == [line.next(now=2.0) for _ in range(2)]
    target.end(running)
    assert small is line.next(now=2.0)


def test_a_tenants_pause_ends_by_itself() -> None:
    line = _line()
    target = Target(line)
    target.throttle(target.send(Call(tenant="small")), of_tenant=True, retry_after=3.0)
    target.wait(Call(tenant="small"))

    assert line.next(now=2.0) is None
    assert 3.0 == line.seconds_until_next(now=2.0)
    assert line.next(now=5.0) is not None


def test_tenants_are_forgotten() -> None:
    line = _line()
    target = Target(line)
    target.throttle(target.send(Call(tenant="small")), of_tenant=True)
    line.forget_old(now=2.0 + TENANT_FORGOTTEN_AFTER)
    before = line.is_watched
    line.forget_old(now=3.0 + TENANT_FORGOTTEN_AFTER)

    assert (True, False) == (before, line.is_watched)
    assert line.may_pass(target.member, "small", now=1000.0)


def test_the_tenants_that_are_remembered_are_bounded() -> None:
    """Clients may choose their tenant. The one whose throttle is the oldest is forgotten."""
    line = _line()
    target = Target(line)
    for number in range(MOST_TENANTS + 1):
        target.throttle(target.send(Call(tenant=number)), of_tenant=True, retry_after=60.0)

    assert line.may_pass(target.member, 0, now=2.0)
    assert not line.may_pass(target.member, 1, now=2.0)


# -- how long the queue takes ------------------------------------------------------------------------------------------


def _move_on(target: Target, count: int, *, every: float) -> None:
    """Let so many calls end while others wait."""
    for number in range(count):
        target.end(target.send(), now=10.0 + number * every)


def test_the_wait_is_told_from_what_was_measured() -> None:
    """Ten calls a second, and twenty are before the new one."""
    target = Target(_line())
    for _ in range(20):
        target.wait(Call("a"))
    _move_on(target, MEASURED_FROM, every=0.1)

    assert pytest.approx(2.0) == target.line.seconds_to_wait(target.member, ONE_TENANT, "a")
    assert pytest.approx(0.1) == target.line.seconds_to_wait(target.member, ONE_TENANT, "new")


def test_nothing_is_told_before_ten_calls_were_measured() -> None:
    target = Target(_line())
    target.wait(Call("a"))
    _move_on(target, MEASURED_FROM - 1, every=100.0)

    assert target.line.seconds_to_wait(target.member, ONE_TENANT, "a") is None


def test_what_was_measured_before_a_quiet_time_does_not_count() -> None:
    line = _line()
    target = Target(line)
    target.wait(Call("a"))
    _move_on(target, MEASURED_FROM, every=100.0)
    line.next(now=2000.0)
    target.end(target.send(), now=2001.0)
    target.wait(Call("a"))

    assert line.seconds_to_wait(target.member, ONE_TENANT, "a") is None


def test_an_outage_does_not_count_as_the_pace_of_the_queue() -> None:
    """Afterwards nobody is refused for the time in which every call was throttled."""
    line = _line()
    target = Target(line)
    for _ in range(20):
        target.wait(Call("a"))
    _move_on(target, MEASURED_FROM, every=0.1)
    target.throttle(target.send(), now=20.0)
    during = line.seconds_to_wait(target.member, ONE_TENANT, "a")
    for number in range(MEASURED_FROM):
        target.end(target.send(), now=1000.0 + number * 0.1)

    assert during is None
    assert pytest.approx(2.0) == line.seconds_to_wait(target.member, ONE_TENANT, "a")
