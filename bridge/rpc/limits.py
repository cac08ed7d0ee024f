"""The numbers that bound one call. Sizes are bytes, durations seconds. None means that the bridge sets no bound."""

from __future__ import annotations

from bridge.rpc.status import StatusCode
from bridge.rpc.value import Value

MIB = 1 << 20

LARGEST_MESSAGE = 64 * MIB
"""Bytes of one response message where max_response sets no limit. A message is held until it is whole, so it needs a bound."""


class Limits(Value, frozen=True):
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


class RetryPolicy(Value, frozen=True):
    """How a call is repeated that did not reach its function."""

    attempts: int = 3
    """Attempts in all, the first among them. 1 means that no call is repeated."""
    backoff: float = 0.05
    """Seconds: the wait before the n-th repetition is a random time up to backoff * 2^(n-1)."""
    max_backoff: float = 2.0
    """Seconds."""
    budget: float = 0.2
    """Most retries, as a fraction of all calls."""
