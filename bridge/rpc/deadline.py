"""Deadlines are points in time on the monotonic clock (seconds); timeouts are durations on the wire and in
configuration.
"""

from __future__ import annotations

_SECONDS_IN = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MAX_DIGITS = 8
_MOST_MILLISECONDS = 99_999.999
"""Seconds that milliseconds have digits for."""

_FEWEST_MILLISECONDS = 0.1
"""Seconds from which rounding to milliseconds loses less than 1 %."""
_NOISE = 1e-6
"""Parts of a unit: what arithmetic in floating point takes away from a whole number."""

MAX_DEADLINE = 10.0 * 365 * 24 * 3600
"""Longer timeouts count as this long (seconds): 99,999,999 hours would overflow timers."""

NO_TIMER_BEYOND = 24 * 3600.0
"""Deadlines farther away than this (seconds) get no timer: they bound a call no more than none does."""


def parse_timeout(value: str) -> float:
    """Return the seconds of a `grpc-timeout` (PROTOCOL-HTTP2, "Timeout"). Raises ValueError."""
    digits, seconds = value[:-1], _SECONDS_IN.get(value[-1:])
    if seconds is None or not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise ValueError(f"grpc-timeout {value[:20]!r} is not 1 to 8 digits and one of H M S m u n")
    timeout = int(digits) * seconds
    return timeout if timeout < MAX_DEADLINE else MAX_DEADLINE  # noqa: FURB136 - min() costs three times as much


def format_timeout(seconds: float) -> str:
    """Return the `grpc-timeout` for this long, rounded down: the other side must never believe that it has more time
    than is left.

    The unit is milliseconds from 0.1 s up, as far as 8 digits go. Others lose less than 2 %; the least is one
    nanosecond.
    """
    if _FEWEST_MILLISECONDS <= seconds <= _MOST_MILLISECONDS:
        return f"{int(seconds * 1e3 + _NOISE)}m"
    if seconds <= 0:
        return "0m"
    for unit in "nuSMH":
        count = int(seconds / _SECONDS_IN[unit] + _NOISE)
        if count < 10**_MAX_DIGITS:
            return f"{max(1, count)}{unit}"
    return "99999999H"


def earliest(deadline: float | None, other: float | None) -> float | None:
    """Return the earlier of two deadlines, either of which may be absent."""
    if deadline is None:
        return other
    return deadline if other is None else min(deadline, other)
