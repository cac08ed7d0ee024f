"""Decides what a connection must do because time has passed. It knows times and limits, but no socket and no engine.

All times are the loop's, in seconds: coarse, and read once a turn.
"""

from __future__ import annotations

import random
from enum import Enum, auto

from bridge.rpc.limits import ConnectionLimits

_AGE_JITTER = 0.1
_DRAIN_PING_WAIT = 5.0
"""Seconds until the second GOAWAY if the client does not answer the PING (as grpc-go waits)."""

_GREETING_WAIT = 0.5
"""The same for a client that has not said a word. Its first call may be on its way."""


class ConnectionState(Enum):
    OPEN = auto()
    LEAVING = auto()
    """The first GOAWAY is out. Calls that the client sent before it arrived are still served."""
    DRAINING = auto()
    """The second GOAWAY is out: when the last call ends, the connection closes."""
    CLOSED = auto()


class Due(Enum):
    """What is to be done. The value is the reason, as metrics and GOAWAY frames name it."""

    KILL = ""
    """The client does not read the last bytes either."""
    WRITE_STALL = "write_stall"
    HANDSHAKE = "handshake_timeout"
    HEADER_BLOCK = "header_timeout"
    KEEPALIVE = "keepalive_timeout"
    """Give the connection up, for one of these four reasons."""
    MAX_AGE = "max_age"
    MAX_IDLE = "max_idle"
    """Begin a drain, for one of these two reasons."""
    SECOND_GOAWAY = "drain"
    """The client has not answered the PING of the drain."""
    END_OF_GRACE = "grace"
    """End the calls of a drain that takes too long."""
    PING = "ping"
    """Find out whether the client is still there."""


class Timeouts:
    """The times of one connection."""

    __slots__ = (
        "_limits",
        "_max_age",
        "_opened",
        "_pinged_at",
        "block_since",
        "choked_since",
        "idle_since",
        "last_received",
        "state_since",
    )

    def __init__(self, limits: ConnectionLimits, *, now: float) -> None:
        self._limits = limits
        self._opened = now
        self._pinged_at = 0.0
        self._max_age = limits.max_age
        if self._max_age is not None:
            # Spread the clients of a fleet over time, and so over its replicas (gRFC A9).
            self._max_age *= random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311 - no secret
        self.last_received = now
        self.idle_since = now
        """When the last call ended."""
        self.state_since = now
        """When the connection entered its state."""
        self.choked_since = now
        """When the socket stopped taking bytes, if it has."""
        self.block_since: float | None = None
        """When the open header block began."""

    def due(self, now: float, state: ConnectionState, *, is_choked: bool, is_new: bool, is_idle: bool) -> Due | None:
        """Return what is to be done, if anything. Call this about once a second.

        `is_new`: the handshake is not over. `is_idle`: no call is under way.
        """
        limits, in_state = self._limits, now - self.state_since
        if state is ConnectionState.CLOSED:
            return Due.KILL if in_state > limits.write_stall else None
        if is_choked:
            return Due.WRITE_STALL if now - self.choked_since > limits.write_stall else None
        if is_new and now - self._opened > limits.handshake:
            return Due.HANDSHAKE
        if self.block_since is not None and now - self.block_since > limits.handshake:
            return Due.HEADER_BLOCK
        if state is ConnectionState.LEAVING:
            return Due.SECOND_GOAWAY if in_state > (_GREETING_WAIT if is_new else _DRAIN_PING_WAIT) else None
        if state is ConnectionState.DRAINING:
            return Due.END_OF_GRACE if in_state > limits.grace else None
        if self._max_age is not None and now - self._opened > self._max_age:
            return Due.MAX_AGE
        if limits.idle is not None and is_idle and now - self.idle_since > limits.idle:
            return Due.MAX_IDLE
        return self._keepalive(now)

    def _keepalive(self, now: float) -> Due | None:
        interval = self._limits.keepalive_interval
        if self._pinged_at > self.last_received:
            return Due.KEEPALIVE if now - self._pinged_at > self._limits.keepalive_timeout else None
        if interval is None or now - self.last_received <= interval:
            return None
        self._pinged_at = now
        return Due.PING
