"""quotas: AWS's reasons for a throttle, by the quota that is used up."""

from __future__ import annotations

import pytest

from bridge.emulator.api import refusals
from bridge.emulator.instances.quotas import OF_ACCOUNT, OF_FUNCTION, OF_RATE, AccountQuota, FunctionQuota


def _reason(quota: FunctionQuota, *, concurrency: int = 100, rate: int | None = None, now: float = 1.0) -> str:
    """Begin an invocation. Empty: it runs."""
    try:
        quota.begin(has_place=quota.running < concurrency, rate=rate, now=now)
    except refusals.TooManyRequests as refusal:
        return str(refusal.fields["Reason"])
    return ""


def test_a_function_has_so_many_at_a_time() -> None:
    quota = FunctionQuota(AccountQuota())

    assert ["", "", OF_FUNCTION] == [_reason(quota, concurrency=2) for _ in range(3)]
    quota.end()
    assert "" == _reason(quota, concurrency=2)


def test_functions_of_an_account_share_its_quota() -> None:
    account = AccountQuota(3)
    one, other = FunctionQuota(account), FunctionQuota(account)

    assert ["", "", "", OF_ACCOUNT] == [_reason(each) for each in (one, other, one, other)]
    one.end()
    assert "" == _reason(other)


def test_a_rate_comes_back_with_time() -> None:
    quota = FunctionQuota(AccountQuota())

    assert [""] * 5 + [OF_RATE] == [_reason(quota, rate=5) for _ in range(6)]
    assert ["", OF_RATE] == [_reason(quota, rate=5, now=1.25) for _ in range(2)]


def test_a_rate_that_is_changed_holds_at_once() -> None:
    quota = FunctionQuota(AccountQuota())
    for _ in range(5):
        _reason(quota, rate=5)

    assert ["", OF_RATE] == [_reason(quota, rate=1) for _ in range(2)]
    assert "" == _reason(quota)


@pytest.mark.parametrize("reason", [OF_FUNCTION, OF_ACCOUNT])
def test_what_is_refused_does_not_count(reason: str) -> None:
    account = AccountQuota(1)
    quota = FunctionQuota(account)
    quota.begin(has_place=True, rate=None, now=1.0)
    concurrency = 1 if reason == OF_FUNCTION else 2

    assert [reason] * 2 == [_reason(quota, concurrency=concurrency) for _ in range(2)]
    assert (1, 1) == (quota.running, account.running)
