"""Computes when a call must have its reply: the earlier of the caller's deadline and the end of Lambda's invocation,
minus a margin.

The clocks are read by the caller of these functions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lambda_fn.status import DEADLINE_EXCEEDED, Status

MARGIN = 0.5
"""Seconds before Lambda ends an invocation at which we answer: time to encode the reply and hand it over."""

_LONGEST_DELAY = 20.0
"""Seconds that an event's own time may lie back and be believed: a cold start, not a clock that is off."""


class Deadline(NamedTuple):
    """A moment at which a call ends, and how."""

    at: float
    """Monotonic seconds."""
    status: Status
    """How a call ends that misses it."""


def of_caller(timeout: float | None, *, sent_at: float | None, arrived_at: float, now: float) -> Deadline | None:
    """Return the caller's deadline: `timeout` seconds after it sent the call, if the event tells, else after it
    arrived.

    `sent_at` and `arrived_at` are seconds since the epoch, `now` is monotonic and the same moment as `arrived_at`.
    """
    if timeout is None:
        return None
    delay = 0.0 if sent_at is None else arrived_at - sent_at
    elapsed = delay if 0.0 <= delay <= _LONGEST_DELAY else 0.0
    return Deadline(now + timeout - elapsed, Status(DEADLINE_EXCEEDED, "Deadline Exceeded"))


def of_lambda(lambda_context: Any, *, now: float) -> Deadline | None:
    """Return the end of the invocation, less the margin, or None if the context does not tell."""
    remaining_in_millis = getattr(lambda_context, "get_remaining_time_in_millis", None)
    if remaining_in_millis is None:
        return None
    remaining = remaining_in_millis() / 1000
    if remaining <= 0:  # local emulators send a deadline in 1970
        return None
    # Of a very short invocation the margin takes only half.
    at = now + remaining - min(MARGIN, remaining / 2)
    return Deadline(at, Status(DEADLINE_EXCEEDED, "the function's time is over (Lambda timeout)"))


def earlier(one: Deadline | None, other: Deadline | None) -> Deadline | None:
    """Return the earlier of two deadlines, either of which may be absent."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda deadline: deadline.at)
