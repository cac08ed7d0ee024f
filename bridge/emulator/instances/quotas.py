"""How many invocations run at a time and begin in a second: AWS's quotas of a function and of its account.

Above one of them an invocation is refused with AWS's reason for it.
"""

from __future__ import annotations

from bridge.emulator.api import refusals
from bridge.http2.abuse import Bucket

OF_FUNCTION = "ReservedFunctionConcurrentInvocationLimitExceeded"
OF_ACCOUNT = "ConcurrentInvocationLimitExceeded"
OF_RATE = "ReservedFunctionInvocationRateLimitExceeded"


class AccountQuota:
    """The invocations of all functions at a time."""

    def __init__(self, concurrency: int | None = None) -> None:
        """`concurrency`: None sets no limit."""
        self.concurrency = concurrency
        self.running = 0

    @property
    def is_used_up(self) -> bool:
        return self.concurrency is not None and self.running >= self.concurrency


class FunctionQuota:
    """The invocations of one function."""

    def __init__(self, account: AccountQuota) -> None:
        self._account = account
        self._bucket: Bucket | None = None
        self._rate: int | None = None
        self.running = 0

    def begin(self, *, has_place: bool, rate: int | None, now: float) -> None:
        """Count an invocation that begins. `has_place`: whether an instance can take it. `rate`: invocations a second.

        Raise TooManyRequests above a quota.
        """
        if not has_place:
            raise refusals.TooManyRequests(OF_FUNCTION)
        if self._account.is_used_up:
            raise refusals.TooManyRequests(OF_ACCOUNT)
        if rate is not None and not self._spend(rate, now):
            raise refusals.TooManyRequests(OF_RATE)
        self.running += 1
        self._account.running += 1

    def _spend(self, rate: int, now: float) -> bool:
        if self._bucket is None or rate != self._rate:
            self._bucket, self._rate = Bucket(rate, rate), rate
        return self._bucket.spend(now)

    def end(self) -> None:
        self.running -= 1
        self._account.running -= 1
