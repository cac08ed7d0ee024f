"""Buffers: what is counted, what is refused, and that everything is given back."""

import pytest

from bridge.rpc.buffers import SMALL_ACCOUNT, Buffers, OpenAccount, Portion, cost_of_fields
from bridge.rpc.errors import BuffersFull
from bridge.rpc.status import StatusCode

_LIMIT = 16 << 20


def test_an_account_counts_in_the_process() -> None:
    """Until it is closed, whatever it had taken and given back before."""
    buffers = Buffers(_LIMIT)
    one, other = OpenAccount(buffers), OpenAccount(buffers)
    one.hold(1000)
    one.let_go(300)
    other.hold_anyway(50)

    assert (700, 50, 750) == (one.held, other.held, buffers.held)
    one.close()
    assert (0, 50) == (one.held, buffers.held)
    one.close()
    assert 50 == buffers.held


def test_what_does_not_fit_is_refused_and_not_counted() -> None:
    """The status says how much, the limit, and its key."""
    account = OpenAccount(Buffers(1000))
    account.hold(900)

    with pytest.raises(BuffersFull, match=r"no room for 101 bytes.* 1000 bytes \(buffers\)") as caught:
        account.hold(101)
    assert (StatusCode.RESOURCE_EXHAUSTED, "buffers") == (caught.value.code, caught.value.reason)
    assert (900, 900) == (account.held, account.buffers.held)


def test_large_accounts_leave_an_eighth_for_small_ones() -> None:
    """So that one that holds megabytes never keeps a small call out."""
    buffers = Buffers(_LIMIT)
    large, small = OpenAccount(buffers), OpenAccount(buffers)
    large.hold(_LIMIT - _LIMIT // 8)

    with pytest.raises(BuffersFull):
        large.hold(1)
    assert (0, SMALL_ACCOUNT) == (large.room, small.room)
    small.hold(SMALL_ACCOUNT)
    with pytest.raises(BuffersFull):
        small.hold(1)


def test_room_is_what_hold_takes() -> None:
    buffers = Buffers(1000)
    account = OpenAccount(buffers)
    account.hold(account.room)

    assert 0 == account.room
    account.hold_anyway(50)
    assert 0 == account.room
    with pytest.raises(BuffersFull):
        account.hold(1)


def test_a_portion_mirrors_what_grows_and_shrinks() -> None:
    """What does not fit leaves it as it was counted before."""
    account = OpenAccount(Buffers(1000))
    portion = Portion(account)
    for size in (10, 700, 30):
        portion.become(size)
        assert (size, size) == (account.held, account.buffers.held)
    with pytest.raises(BuffersFull):
        portion.become(1001)
    assert (30, 30) == (portion.size, account.held)


def test_who_waits_is_told_of_freed_room() -> None:
    """And only while somebody waits."""
    told: list[int] = []
    buffers = Buffers(1000)

    def tell() -> bool:
        told.append(buffers.held)
        return True

    buffers.when_freed(tell)
    account = OpenAccount(buffers)
    account.hold(100)
    account.let_go(10)
    buffers.is_awaited = True
    account.let_go(20)
    account.close()

    assert [70, 0] == told


def test_usual_metadata_costs_nothing_more() -> None:
    """Large metadata counts with what its objects take."""
    assert 0 == cost_of_fields((("x-request-id", "a" * 36),) * 10)
    assert 100 * (128 + 6 + 100) - 4096 == cost_of_fields((("x-name", "a" * 100),) * 100)


def test_who_waits_gets_room_in_the_order_of_asking() -> None:
    """All of it or nothing; who has given up is passed over."""
    buffers = Buffers(1000)
    filling, first, gone, last = (OpenAccount(buffers) for _ in range(4))
    filling.hold(1000)
    granted: list[str] = []
    buffers.wait(first, 600, lambda: granted.append("first"))
    buffers.wait(gone, 100, lambda: granted.append("gone")).is_over = True
    buffers.wait(last, 300, lambda: granted.append("last"))
    buffers.tell_freed()
    at_once = list(granted)
    filling.let_go(200)
    before = list(granted)
    filling.let_go(800)

    assert (["first"], ["first"], ["first", "last"]) == (at_once, before, granted)
    assert (600, 0, 300, 900, False) == (first.held, gone.held, last.held, buffers.held, buffers.is_awaited)


def test_those_that_wait_for_each_other_get_room_one_at_a_time() -> None:
    """Each holds a part already, so that none would ever fit."""
    buffers = Buffers(1000)
    accounts = [OpenAccount(buffers) for _ in range(5)]
    granted: list[OpenAccount] = []
    for account in accounts:
        account.hold(200)
    for account in accounts:
        buffers.wait(account, 300, lambda account=account: granted.append(account))  # type: ignore[misc]  # mypy finds no type for the default
        buffers.tell_freed()
    most = []
    for account in accounts:
        assert account in granted
        most.append(buffers.held)
        account.close()

    assert accounts == granted
    assert max(most) == 1300
    assert (0, False) == (buffers.held, buffers.is_awaited)


def test_who_is_let_beyond_keeps_no_small_call_out() -> None:
    """Until it has ended, its bytes count as held and not against others."""
    buffers = Buffers(16 << 20)
    filling, beyond, small = (OpenAccount(buffers) for _ in range(3))
    filling.hold(14 << 20)
    buffers.wait(beyond, 10 << 20, lambda: None)
    buffers.tell_freed()

    assert (24 << 20, False, SMALL_ACCOUNT) == (buffers.held, buffers.is_full, small.room)
    small.hold(1000)
    filling.hold_anyway(3 << 20)
    assert buffers.is_full
    assert 0 == small.room
    beyond.close()
    assert buffers.is_full
