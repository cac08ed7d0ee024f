"""One Lambda function: how many instances it has, and when it refuses calls. It serves one call in an instance."""

from __future__ import annotations

from bridge.rpc.errors import Quota

INSTANCES_AT_ONCE = 1000.0
"""New instances that a function gets in 10 s (Lambda developer guide, "Lambda scaling behavior", November 2026)."""
REFILLED_IN = 10.0


class LambdaFunction:
    """A function with its quota. Instances that were started stay warm."""

    def __init__(
        self, *, duration: float, cold_start: float = 0.0, scale: float = 1.0, reason: Quota = Quota.ACCOUNT
    ) -> None:
        """`duration` and `cold_start` in seconds. `reason`: the quota that throttles name. AWS does not say which one
        it names while a function grows.
        """
        self.duration = duration
        self.cold_start = cold_start
        self.running = 0
        self.instances = 0
        self._reason = reason
        self._burst = INSTANCES_AT_ONCE / scale
        self._room = self._burst
        self._counted = 0.0

    def start(self, now: float) -> float | Quota:
        """Return how many seconds a call that is sent now takes, or the quota that refuses it."""
        if self.running < self.instances:
            self.running += 1
            return self.duration
        self._room = min(self._burst, self._room + (now - self._counted) * self._burst / REFILLED_IN)
        self._counted = now
        if self._room < 1:
            return self._reason
        self._room -= 1
        self.running += 1
        self.instances += 1
        return self.duration + self.cold_start

    def end(self) -> None:
        """Note that a call has ended."""
        self.running -= 1
