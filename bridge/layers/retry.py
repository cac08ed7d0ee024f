"""retry: repeats a call that provably did not reach its function and may succeed a moment later; never anything else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import RpcError, Throttled
from bridge.rpc.events import Phase
from bridge.rpc.figures import TargetFigures
from bridge.rpc.value import Value

_LONGEST_PAUSE = 60.0
"""Seconds. Who is asked to wait longer gets the answer now, with the time to come back at: a waiting call holds its place."""
_MOST_DOUBLINGS = 30


class RetryPolicy(Value, frozen=True):
    attempts: int = 3
    """Counting the first; 1: never repeat."""
    backoff: float = 0.05
    """Seconds: the wait before the n-th repetition is a random time up to backoff * 2^(n-1)."""
    max_backoff: float = 2.0
    budget: float = 0.2
    """Retries at most, as a part of all calls."""


class Budget:
    """Keeps retries from multiplying an outage: calls earn a part of a retry each, retries spend a whole one."""

    __slots__ = ("_most", "_part", "_tokens", "calls")

    _RESERVE = 10.0
    """So that a quiet route may retry at all."""
    _SAVED_CALLS = 1000
    """Calls whose savings count at most."""

    def __init__(self, part: float) -> None:
        self._part = part
        self._most = self._RESERVE + part * self._SAVED_CALLS
        self._tokens = self._RESERVE
        self.calls = 0
        """Calls since the last spending; whoever sends one counts it here."""

    def spend(self) -> bool:
        """Take a retry; False if none has been earned."""
        self._tokens = min(self._most, self._tokens + self._part * self.calls)
        self.calls = 0
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def retry(
    inner: Handler,
    *,
    policy: RetryPolicy,
    target: TargetFigures,
    clock: Callable[[], float],
    random: Callable[[], float] = random.random,
) -> Handler:
    """`clock` reads the monotonic time (seconds); `random` gives a number from 0 to 1."""
    budget = Budget(policy.budget)

    async def retried(call: Call) -> None:
        budget.calls += 1
        while True:
            call.attempts += 1
            try:
                return await inner(call)
            except RpcError as error:
                if isinstance(error, Throttled):
                    error.code = call.route.limits.throttled_as
                    target.throttled[error.throttle_reason or "unknown"] += 1
                pause = _pause_before_retry(call, error)
                if pause is None:
                    raise
            target.retries += 1
            await asyncio.sleep(pause)

    def _pause_before_retry(call: Call, error: RpcError) -> float | None:
        """Seconds to wait; None: the error is the answer."""
        may_retry = error.is_transient and not error.may_have_run and call.phase is Phase.NEW
        if not may_retry or call.attempts >= policy.attempts:
            return None
        doublings = min(call.attempts - 1, _MOST_DOUBLINGS)
        most = min(policy.max_backoff, policy.backoff * 2**doublings)
        pause = max(error.retry_after or 0.0, random() * most)
        if pause > max(_LONGEST_PAUSE, policy.max_backoff):
            return None
        if call.deadline is not None and clock() + pause >= call.deadline:
            return None  # the client learns why now, not that its deadline passed later
        return pause if budget.spend() else None

    return retried
