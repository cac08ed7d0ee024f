"""What happened in the last minutes: calls and their latencies by method and target, and single calls worth a look.

All of it is bounded, travels between processes as JSON, and adds up. It reads no clock: it is told the time of day, so
that the slots of several processes are the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from bridge.rpc.families import Figures
from bridge.rpc.figures import MethodFigures
from bridge.rpc.spread import Spread

SLOT_SECONDS = 5
SLOTS = 60
"""Slots that are kept: five minutes."""
MOST_VALUES = 50_000
"""Buckets of latencies over all slots of a process, about 10 MB. Beyond that the oldest slots are dropped."""
MOST_CALLS = 100
"""Calls of each kind (failed, slow, open) that are kept."""


class CallRecord(Struct, frozen=True, omit_defaults=True):
    """A call that has ended. Durations are in seconds."""

    time: float
    """Unix time of its end."""
    method: str
    code: str
    seconds: float
    target: str = ""
    message: str = ""
    cause: str = ""
    """What the bridge knows of the reason beyond the message."""
    request_id: str = ""
    trace_id: str = ""
    tenant: str = ""
    peer: str = ""
    queued: float = 0.0
    upstream: float = 0.0
    attempts: int = 0
    cold_start: bool = False


class Exemplar(Struct, frozen=True):
    """A call that stands for a number of a metric. Of two the newer one is kept."""

    trace_id: str
    seconds: float
    time: float
    """Unix time."""

    def __add__(self, other: Exemplar) -> Exemplar:
        return self if self.time >= other.time else other


class OpenCall(Struct, frozen=True, omit_defaults=True):
    """A call that is under way."""

    method: str
    seconds: float
    stage: str
    """waits | at the target | replies"""
    target: str = ""
    tenant: str = ""
    peer: str = ""
    attempts: int = 0


class IdentityState(Struct, frozen=True, omit_defaults=True):
    """What the bridge presents to AWS, and who needs it. Holds no secret."""

    identity: str
    """`access key ID (place)`, `role ARN`, or `unknown`."""
    targets: tuple[str, ...] = ()
    """Of those whose requests it signs. Empty: it only assumes roles."""
    found: float | None = None
    """Unix time of the last successful search."""
    expires: float | None = None
    """Unix time. None: never, or not known."""
    fault: str = ""
    """Why the last search failed. Empty: it did not."""


class Row(Struct):
    """The calls of one method that one target answered, within a slot."""

    method: str
    target: str
    codes: dict[int, int] = field(default_factory=dict)
    """Calls by status code."""
    seconds: Spread = field(default_factory=Spread)

    def add(self, other: Row) -> None:
        """Take in the calls of the same method and target."""
        for code, count in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
        self.seconds.add(other.seconds)


class Slot(Struct):
    """Five seconds."""

    number: int
    """Unix time divided by SLOT_SECONDS."""
    rows: list[Row] = field(default_factory=list)

    @property
    def values(self) -> int:
        """How many buckets of latencies it holds."""
        return sum(1 + len(row.seconds.counts) for row in self.rows)


class Recent(Figures):
    """The last minutes of one process, or of several."""

    slots: list[Slot] = field(default_factory=list)
    """The oldest first. A slot without calls may be missing."""
    failures: list[CallRecord] = field(default_factory=list)
    """Of calls that got as far as a target. The newest first, as in the next ones."""
    refusals: list[CallRecord] = field(default_factory=list)
    """Of calls that failed before. A flood of them must not push out the failures."""
    slow: list[CallRecord] = field(default_factory=list)
    """The slowest first."""
    open_calls: list[OpenCall] = field(default_factory=list)
    """The oldest first."""
    last_failures: dict[str, CallRecord] = field(default_factory=dict)
    """By target."""
    credentials: list[IdentityState] = field(default_factory=list)
    """The credentials in use, each once."""

    def add(self, other: Recent) -> None:
        """Take in another process's minutes."""
        by_number = {slot.number: slot for slot in self.slots}
        for slot in other.slots:
            own = by_number.setdefault(slot.number, Slot(slot.number))
            rows = {(row.method, row.target): row for row in own.rows}
            for row in slot.rows:
                known = rows.get((row.method, row.target))
                if known is None:
                    own.rows.append(row)
                else:
                    known.add(row)
        self.slots = sorted(by_number.values(), key=lambda slot: slot.number)[-SLOTS:]
        self.failures = newest([*self.failures, *other.failures])
        self.refusals = newest([*self.refusals, *other.refusals])
        self.slow = slowest([*self.slow, *other.slow])
        self.open_calls = sorted([*self.open_calls, *other.open_calls], key=lambda call: -call.seconds)[:MOST_CALLS]
        for target, record in other.last_failures.items():
            known_record = self.last_failures.get(target)
            if known_record is None or known_record.time < record.time:
                self.last_failures[target] = record
        # Each process searches for itself. Of several with the same identity, one in trouble is shown.
        states = sorted([*self.credentials, *other.credentials], key=lambda state: not state.fault)
        self.credentials = list({state.identity: state for state in reversed(states)}.values())

    def counts(self) -> Recent:
        """Return what stays of a process that has ended: all but its open calls and credentials."""
        return Recent(self.slots, self.failures, self.refusals, self.slow, [], self.last_failures)


def exemplars_of(records: Iterable[CallRecord], key: Callable[[CallRecord], str]) -> dict[str, dict[str, Exemplar]]:
    """Return by method, and then by `key`, the newest call that has a trace."""
    found: dict[str, dict[str, Exemplar]] = {}
    for record in records:
        if record.trace_id:
            by_key, name = found.setdefault(record.method, {}), key(record)
            exemplar = Exemplar(record.trace_id, record.seconds, record.time)
            by_key[name] = exemplar + by_key.get(name, exemplar)
    return found


def newest(records: Iterable[CallRecord]) -> list[CallRecord]:
    return sorted(records, key=lambda record: -record.time)[:MOST_CALLS]


def slowest(records: Iterable[CallRecord]) -> list[CallRecord]:
    return sorted(records, key=lambda record: -record.seconds)[:MOST_CALLS]


class RecentSlots:
    """The slots of a running process."""

    def __init__(self, *, most_values: int = MOST_VALUES) -> None:
        self._most_values = most_values
        self._slots: deque[Slot] = deque(maxlen=SLOTS)
        self._rows: dict[tuple[str, str], Row] = {}
        """Those of the last slot, by method and target."""
        self._held = 0
        """An upper bound on the buckets of all slots."""

    def note(self, methods: Iterable[MethodFigures], *, now: float) -> None:
        """Take in the calls that have ended since the last time. `now`: Unix time. Call this about once a second."""
        number = int(now // SLOT_SECONDS)
        for figures in methods:
            codes, seconds = figures.take_recent()
            if not codes:
                continue
            if not self._slots or self._slots[-1].number != number:
                self._begin(number)
            row = Row(f"/{figures.service}/{figures.method}", figures.target, codes)
            if self._held < self._most_values:  # else the calls are counted without their latencies
                row.seconds.observe(seconds)
            self._held += 1 + len(row.seconds.counts)
            known = self._rows.setdefault((row.method, row.target), row)
            if known is row:
                self._slots[-1].rows.append(row)
            else:
                known.add(row)

    def _begin(self, number: int) -> None:
        """Begin a slot. Drop the oldest ones while all together hold too much."""
        self._slots.append(Slot(number))
        self._rows = {}
        self._held = sum(slot.values for slot in self._slots)
        while self._held > self._most_values and len(self._slots) > 1:
            self._held -= self._slots.popleft().values

    def within(self, *, now: float) -> list[Slot]:
        """Return the slots of the last minutes."""
        first = int(now // SLOT_SECONDS) - SLOTS
        return [slot for slot in self._slots if slot.number > first]
