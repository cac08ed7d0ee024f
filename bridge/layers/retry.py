"""retry: repeats only calls that provably did not reach their function and may succeed a moment later."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import RpcError, Throttled
from bridge.rpc.events import Phase
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import RetryPolicy

_LONGEST_PAUSE = 60.0
"""Seconds. A call that would have to wait longer fails at once, and its status says when to try again. While a call
waits, it keeps its place in `max_concurrency`.
"""
_MOST_DOUBLINGS = 30


class Budget:
    """Keeps retries from making an outage worse. A call earns a part of a retry, and a retry spends a whole one."""

    __slots__ = ("_most", "_part", "_tokens", "calls")

    _RESERVE = 10.0
    """Retries allowed at the start, so that a route with few calls may retry too."""
    _SAVED_CALLS = 1000
    """The number of calls whose earnings can be saved up at most."""

    def __init__(self, part: float) -> None:
        self._part = part
        self._most = self._RESERVE + part * self._SAVED_CALLS
        self._tokens = self._RESERVE
        self.calls = 0
        """Calls since the last `spend`. `retry` adds one for each call."""

    def spend(self) -> bool:
        """Take a retry. Returns False if none has been earned."""
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
    """Return a handler that calls `inner` again where `policy` allows it.

    `clock` reads the monotonic time (seconds). `random` gives a number from 0 to 1. Raises the last error.

    A throttled call is not repeated here: the layer `admit` lets it wait for another turn. That costs no attempt and
    nothing of the budget.
    """
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
                    call.throttles += 1
                    budget.calls -= 1
                    raise
                pause = _pause_before_retry(call, error)
                if pause is None:
                    raise
            target.retries += 1
            await asyncio.sleep(pause)

    def _pause_before_retry(call: Call, error: RpcError) -> float | None:
        """Return the seconds to wait, or None if the caller gets the error."""
        may_retry = error.is_transient and not error.may_have_run and call.phase is Phase.NEW
        if not may_retry or call.attempts - call.throttles >= policy.attempts:
            return None
        doublings = min(call.attempts - call.throttles - 1, _MOST_DOUBLINGS)
        most = min(policy.max_backoff, policy.backoff * 2**doublings)
        pause = max(error.retry_after or 0.0, random() * most)
        if pause > max(_LONGEST_PAUSE, policy.max_backoff):
            return None
        if call.deadline is not None and clock() + pause >= call.deadline:
            return None  # the client gets the cause now, instead of DEADLINE_EXCEEDED later
        return pause if budget.spend() else None

    return retried
