"""Single calls that an operator may want to look at: those that failed, and the slowest. Their number is bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bridge.layers.access_log import trace_id_in
from bridge.rpc.call import Call
from bridge.rpc.recent import MOST_CALLS, CallRecord, slowest
from bridge.rpc.status import CODES, StatusCode

MOST_SLOW = 50
LEAST_SLOW_SECONDS = 0.02
"""A call that took less is not slow, even if it is among the slowest. So a fast service pays nothing for this list."""
SLOW_SECONDS = 600.0
"""How long a slow call is kept."""
_MOST_TARGETS = 1000
_LONGEST = 300
"""Characters of each text."""
_MOST_CAUSES = 4


class NotableCalls:
    """The failed and the slow calls of one process."""

    def __init__(self, *, wall_clock: Callable[[], float], redact: Callable[[str], str] = str) -> None:
        """`redact` takes out of a cause what nobody may read."""
        self.slow_from = LEAST_SLOW_SECONDS
        """Seconds. Calls that took as long are worth a look."""
        self.failures: deque[CallRecord] = deque(maxlen=MOST_CALLS)
        self.refusals: deque[CallRecord] = deque(maxlen=MOST_CALLS)
        self.slow: list[CallRecord] = []
        self.last_failures: dict[str, CallRecord] = {}
        self._wall_clock = wall_clock
        self._redact = redact

    def note(self, call: Call, code: StatusCode, seconds: float) -> None:
        """Keep a call that failed, or took at least `slow_from` seconds."""
        record = self._record(call, code, seconds)
        if code and not call.attempts and not call.queued_seconds:
            self.refusals.append(record)
        elif code:
            self.failures.append(record)
            if record.target in self.last_failures or len(self.last_failures) < _MOST_TARGETS:
                self.last_failures[record.target] = record
        if record.target and seconds >= self.slow_from:
            self.slow = slowest([*self.slow, record])[:MOST_SLOW]
            self._set_threshold()

    def forget_old(self) -> None:
        """Drop slow calls that are long over. Call this now and then."""
        oldest = self._wall_clock() - SLOW_SECONDS
        self.slow = [record for record in self.slow if record.time >= oldest]
        self._set_threshold()

    def _set_threshold(self) -> None:
        is_full = len(self.slow) >= MOST_SLOW
        self.slow_from = self.slow[-1].seconds if is_full else LEAST_SLOW_SECONDS

    def _record(self, call: Call, code: StatusCode, seconds: float) -> CallRecord:
        return CallRecord(
            self._wall_clock(),
            call.path[:_LONGEST],
            CODES[code].name,
            seconds,
            call.route.target,
            "" if call.status is None else call.status.message[:_LONGEST],
            self._redact(_causes_of(call.cause))[:_LONGEST] if code else "",
            call.request_id[:_LONGEST],
            trace_id_in(call.metadata),
            call.tenant[:_LONGEST],
            call.peer.address,
            call.queued_seconds,
            call.upstream_seconds,
            call.attempts,
            call.is_cold_start,
        )


def _causes_of(error: BaseException | None) -> str:
    """Return the kind of the error, and what caused it. The error's own text is the status message already."""
    if error is None:
        return ""
    told = [type(error).__name__]
    while error.__cause__ is not None and len(told) < _MOST_CAUSES:
        error = error.__cause__
        text = str(error)
        told.append(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    return " ← ".join(told)
