"""How long an idle connection to one server may still be used.

A server closes idle connections after a time that it may announce. A request that meets such a close may be lost. So a
connection is used for less time than the server's, and looked at before use when it has been idle for a while.
"""

from __future__ import annotations

import asyncio
from math import inf

from bridge.rpc.limits import PoolLimits

KEPT_SHARE = 0.8
"""The part of a server's idle timeout for which its connections are used."""

SHORTEST_IDLE = 0.05
"""Seconds. A server that closes connections sooner may be restarting, and opening more would be useless."""


class IdleTimes:
    """Belongs to one pool."""

    __slots__ = (
        "_announced",
        "_forget",
        "_learned",
        "_looked_at_after",
        "_loop",
        "_remembered",
        "limit",
        "timeout",
        "trusted",
    )

    def __init__(self, limits: PoolLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self.timeout = limits.idle_timeout
        """Seconds after which an idle connection is closed."""
        self._looked_at_after = limits.looked_at_after
        self._remembered = limits.remembered
        self._announced = self._learned = inf
        self._forget: asyncio.TimerHandle | None = None
        self.limit = limits.idle_timeout
        """Seconds of idleness up to which a connection is used. Less than the timeout if servers close sooner."""
        self.trusted = min(limits.looked_at_after, limits.idle_timeout)
        """Seconds of idleness up to which a connection is used without looking at its socket."""

    def announced(self, seconds: float) -> None:
        """Note how long the server says that it keeps idle connections."""
        self._announced = seconds * KEPT_SHARE
        self._set()

    def learn(self, idle: float) -> None:
        """Note that the server closed a connection that was idle for so many seconds. Others are then used for less
        time, for a while.
        """
        self._learned = min(self._learned, max(idle * KEPT_SHARE, SHORTEST_IDLE))
        self._set()
        if self._forget is not None:
            self._forget.cancel()
        self._forget = self._loop.call_later(self._remembered, self._forget_learned)

    def close(self) -> None:
        """End the timer."""
        if self._forget is not None:
            self._forget.cancel()

    def _forget_learned(self) -> None:
        self._forget, self._learned = None, inf
        self._set()

    def _set(self) -> None:
        self.limit = min(self.timeout, self._announced, self._learned)
        self.trusted = min(self._looked_at_after, self.limit)
