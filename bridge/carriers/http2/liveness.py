"""The rules for how long a connection may be silent, idle or unread: what to do, given the time."""

from __future__ import annotations

from enum import Enum, auto

from bridge.rpc.value import FrozenValue


class ConnectionTimes(FrozenValue, frozen=True):
    """The times in seconds for which a connection may be silent.

    Servers close the connection of a client that pings more often than every 5 minutes, or without a call in flight
    (gRPC keepalive.md). NAT gateways
    forget connections silent for 350 s. So the ping interval lies between the two, and a connection without calls is
    closed before long.
    """

    keepalive: float = 320.0
    """Silence of the server, with calls in flight, after which a PING is sent."""
    keepalive_timeout: float = 20.0
    """How long the answer to a PING may take."""
    idle: float = 300.0
    """Time without calls after which the connection is closed."""
    stall: float = 60.0
    """How long the server may read nothing."""
    look: float = 5.0
    """Time between two checks of these limits."""


class LivenessDue(Enum):
    """What must happen to a connection."""

    NOTHING = auto()
    STALLED = auto()
    """It has ended: the server has read nothing for too long."""
    SILENT = auto()
    """It has ended: the server has not answered a PING in time."""
    IDLE = auto()
    """Close it: it has had no calls for long."""
    PING = auto()


class Liveness:
    """Follows the signs of life of one connection. Times are those of the loop (seconds)."""

    __slots__ = ("_pinged_at", "_times", "idle_since", "last_received", "stays_until")

    def __init__(self, times: ConnectionTimes) -> None:
        self._times = times
        self._pinged_at: float | None = None
        """When the PING was sent that waits for its answer."""
        self.last_received = self.idle_since = 0.0
        self.stays_until = 0.0
        """Before this time it is not closed for having no calls."""

    @property
    def look(self) -> float:
        """Seconds until the next check."""
        return self._times.look

    def begin(self, now: float) -> None:
        """Note that the connection is open."""
        self.last_received = self.idle_since = now

    def received(self, now: float) -> None:
        """Note that bytes have arrived: any bytes are a sign of life."""
        self.last_received = now
        self._pinged_at = None

    def due(self, now: float, *, stalled_for: float, has_calls: bool, is_reserved: bool) -> LivenessDue:
        """Tell what must happen now. After PING the caller sends one.

        `stalled_for` is the time for which the server has read nothing. `is_reserved` says that a stream is promised
        to a caller.
        """
        times = self._times
        if stalled_for >= times.stall:
            return LivenessDue.STALLED
        if not has_calls:
            is_idle = now - self.idle_since >= times.idle and now >= self.stays_until and not is_reserved
            return LivenessDue.IDLE if is_idle else LivenessDue.NOTHING
        if self._pinged_at is not None:
            return LivenessDue.SILENT if now - self._pinged_at >= times.keepalive_timeout else LivenessDue.NOTHING
        if now - self.last_received >= times.keepalive:
            self._pinged_at = now
            return LivenessDue.PING
        return LivenessDue.NOTHING
