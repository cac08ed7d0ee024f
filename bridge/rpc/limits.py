"""The numbers that bound a call and the connections on both sides of it. Sizes are bytes, durations seconds. None means
that the bridge sets no bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.rpc.status import StatusCode
from bridge.rpc.value import FrozenValue

MIB = 1 << 20

LARGEST_MESSAGE = 64 * MIB
"""Bytes of one response message where max_response sets no limit. A message is held until it is whole, so it needs a
bound.
"""

GRACE = 25.0
"""Seconds that calls under way have to finish: while the bridge drains, and on a connection that is too old."""

KEPT_DESCRIPTORS = 64
"""File descriptors that client connections never take: the admin port, connections to targets and files need some."""


class Limits(FrozenValue, frozen=True):
    """The limits of one entry of `services`. Sizes are in bytes, times in seconds."""

    max_request: int = 4 * MIB
    """One request message as sent."""
    max_buffered: int = 6 * MIB
    """All that one call gathers."""
    max_response: int | None = None
    """One response message."""
    max_trailers: int = 8 << 10
    """Trailers, counted as RFC 9113 6.5.2 counts a header list."""
    half_close: float | None = 60.0
    """How long a call may stay silent after a message before a target that takes its input whole gives up on it."""
    throttled_as: StatusCode = StatusCode.UNAVAILABLE
    """The status of a call that AWS throttled."""


class RetryPolicy(FrozenValue, frozen=True):
    """How a call is repeated that did not reach its function."""

    attempts: int = 3
    """Attempts in all, the first among them. 1 means that no call is repeated."""
    backoff: float = 0.05
    """Seconds: the wait before the n-th repetition is a random time up to backoff * 2^(n-1)."""
    max_backoff: float = 2.0
    """Seconds."""
    budget: float = 0.2
    """Most retries, as a fraction of all calls."""


class QueueLimits(FrozenValue, frozen=True):
    """How calls wait that a target cannot take yet."""

    calls: int = 1000
    """Calls that may wait, for each target and process."""
    wait: float = 10.0
    """Seconds that a call waits at most, over all its turns."""


class PoolLimits(FrozenValue, frozen=True):
    """The limits of the HTTP/1.1 connections to one origin."""

    idle_connections: int = 256
    """Idle connections kept open for each origin."""
    idle_timeout: float = 20.0
    """Seconds without use after which a connection is closed, before the server closes it."""
    looked_at_after: float = 0.01
    """Seconds of idleness after which a connection is checked before use. In steady use the check is not worth its
    system call.
    """
    remembered: float = 60.0
    """Seconds for which an early close of an idle connection by the server is remembered."""
    open_connections: int = 4096
    """Connections in use or idle, for each origin."""
    waiting: int = 10_000
    """Callers that may wait for a connection, for each origin. More are refused."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The time limits of a connection in seconds. None means no limit."""

    handshake: float = 10.0
    """Bounds the wait for the client's SETTINGS, a pause inside a header block, and the end of a request that is not a
    gRPC call.
    """
    write_stall: float = 60.0
    keepalive_interval: float | None = 300.0
    keepalive_timeout: float = 20.0
    max_age: float | None = None
    idle: float | None = None
    stream_idle: float | None = 300.0
    """How long a call may take until the first byte of a message, if its target takes requests whole."""
    grace: float = GRACE
    """The time that calls have to finish on a connection that is too old."""


@dataclass(frozen=True, slots=True)
class MaxConnections:
    """The limits of the client connections of one process."""

    total: int = 10_000
    """At most as many as the process may have files open, less KEPT_DESCRIPTORS."""
    per_peer: int | None = None
    """Of one address. An IPv6 address counts with its /64 network, and all Unix sockets count as one."""
    descriptors: int | None = None
    """The first file descriptor that is not for client connections. The system hands out the lowest free one."""

    def within(self, files: int | None) -> MaxConnections:
        """Return these limits for a process that may have so many files open (RLIMIT_NOFILE; None: no limit)."""
        if files is None:
            return self
        most = max(1, files - KEPT_DESCRIPTORS)
        return replace(self, total=min(self.total, most), descriptors=most)
