"""What the status page shows, as plain values for its script: a snapshot of all workers in, tables and plots out.

The page may ask for one method or target. Plots, failures, slow calls and open calls are then those of that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from bridge.admin.snapshot import Snapshot, TargetSnapshot
from bridge.rpc.figures import MethodCounts
from bridge.rpc.recent import SLOT_SECONDS, SLOTS, CallRecord, IdentityState, OpenCall, Recent, Row
from bridge.rpc.spread import Spread
from bridge.rpc.status import CODES, OK

PARTS = (0.5, 0.9, 0.99)
"""The quantiles that are shown."""
_MOST_ROWS = 1000

Quantiles = list[float] | None


class Filter(Struct, frozen=True):
    """Which calls to show. An empty text is all of them."""

    method: str = ""
    target: str = ""

    def takes(self, each: Row | CallRecord | OpenCall) -> bool:
        """Whether it is one of these calls."""
        return (not self.method or each.method == self.method) and (not self.target or each.target == self.target)


class Plots(Struct):
    """One value for each slot, the oldest first. None: no call ended in it."""

    begin: float
    """Unix time of the first slot's begin."""
    step: float
    rates: list[float]
    """Calls that ended a second."""
    errors: dict[str, list[float]]
    """By code, the same for calls that failed."""
    quantiles: list[list[float | None]]
    """Seconds, for each of PARTS."""


class MethodRow(Struct):
    """A method, since the start and in the last minutes."""

    method: str
    type: str
    calls: int
    errors: int
    in_flight: int
    recent_calls: int
    recent_errors: int
    seconds: Quantiles


class TargetRow(Struct):
    """A target, since the start and in the last minutes."""

    target: str
    in_flight: int
    waiting: int
    limit: int | None
    recent_calls: int
    recent_errors: int
    seconds: Quantiles
    """Of whole calls, in the last minutes."""
    waits: Quantiles
    """Seconds in the queue, since the start."""
    refused: dict[str, int]
    retries: int
    throttled: dict[str, int]
    cold_starts: int
    instances: int
    last_failure: CallRecord | None


class Dashboard(Struct):
    """All that the page shows but the configuration and the local functions."""

    time: float
    version: str
    uptime: float
    listeners: Sequence[str]
    unready: Sequence[str]
    totals: dict[str, int]
    credentials: Sequence[IdentityState]
    window: float
    """Seconds that "recent" means."""
    plots: Plots
    methods: list[MethodRow]
    targets: list[TargetRow]
    failures: list[CallRecord]
    refusals: list[CallRecord]
    slow: list[CallRecord]
    open_calls: list[OpenCall]
    selected: Filter = field(default_factory=Filter)


class _Sum(Struct):
    """Calls of the last minutes."""

    calls: int = 0
    errors: int = 0
    seconds: Spread = field(default_factory=Spread)

    def add(self, row: Row) -> None:
        calls = sum(row.codes.values())
        self.calls += calls
        self.errors += calls - row.codes.get(OK.code, 0)
        self.seconds.add(row.seconds)


def dashboard(
    snapshot: Snapshot,
    *,
    selected: Filter,
    now: float,
    version: str,
    uptime: float,
    listeners: Sequence[str],
    unready: Sequence[str],
) -> Dashboard:
    """Return what the page shows. `now`: Unix time."""
    recent = snapshot.recent or Recent()
    by_method, by_target = _sums(recent)
    return Dashboard(
        time=now,
        version=version,
        uptime=uptime,
        listeners=listeners,
        unready=unready,
        totals=_totals(snapshot),
        credentials=recent.credentials,
        window=SLOT_SECONDS * SLOTS,
        plots=plots(recent, selected, now=now),
        methods=_method_rows(snapshot.methods, by_method)[:_MOST_ROWS],
        targets=[
            _target_row(name, target, by_target.get(name, _Sum()), recent.last_failures.get(name))
            for name, target in sorted(snapshot.targets.items())
        ],
        failures=[each for each in recent.failures if selected.takes(each)],
        refusals=[each for each in recent.refusals if selected.takes(each)],
        slow=[each for each in recent.slow if selected.takes(each)],
        open_calls=[each for each in recent.open_calls if selected.takes(each)],
        selected=selected,
    )


def plots(recent: Recent, selected: Filter, *, now: float) -> Plots:
    """Return the series of the slots that are over."""
    end = int(now // SLOT_SECONDS)
    numbers = range(end - SLOTS + 1, end)
    rates = [0.0] * len(numbers)
    errors: dict[str, list[float]] = {}
    quantiles: list[list[float | None]] = [[None] * len(numbers) for _ in PARTS]
    for slot in recent.slots:
        if slot.number not in numbers:
            continue
        at = slot.number - numbers.start
        spread = Spread()
        for row in filter(selected.takes, slot.rows):
            spread.add(row.seconds)
            for code, count in row.codes.items():
                rates[at] += count / SLOT_SECONDS
                if code != OK.code:
                    series = errors.setdefault(CODES[code].name, [0.0] * len(numbers))
                    series[at] += count / SLOT_SECONDS
        for part, value in enumerate(spread.quantiles(PARTS) or ()):
            quantiles[part][at] = value
    return Plots(numbers.start * SLOT_SECONDS, SLOT_SECONDS, rates, errors, quantiles)


def _sums(recent: Recent) -> tuple[dict[str, _Sum], dict[str, _Sum]]:
    """By method, and by target."""
    # Most of the work is in the slots, of which there are many: they are added up once.
    whole: dict[tuple[str, str], Row] = {}
    for slot in recent.slots:
        for row in slot.rows:
            key = row.method, row.target
            known = whole.get(key)
            if known is None:
                known = whole[key] = Row(*key)
            known.add(row)
    methods: dict[str, _Sum] = {}
    targets: dict[str, _Sum] = {}
    for row in whole.values():
        methods.setdefault(row.method, _Sum()).add(row)
        if row.target:
            targets.setdefault(row.target, _Sum()).add(row)
    return methods, targets


def _totals(snapshot: Snapshot) -> dict[str, int]:
    methods = snapshot.methods.values()
    return {
        "calls": sum(method.started for method in methods),
        "in_flight": snapshot.streams_open,
        "waiting": sum(target.queued for target in snapshot.targets.values()),
        "connections": snapshot.connections_open,
        "connections_refused": sum(snapshot.connections_refused.values()),
        "buffered_bytes": snapshot.buffered_bytes,
        "refused": sum(snapshot.refused.values()),
        "protocol_errors": sum(snapshot.protocol_errors.values()),
        "memory_bytes": snapshot.process.resident_bytes or 0,
    }


def _method_rows(methods: Mapping[str, MethodCounts], sums: Mapping[str, _Sum]) -> list[MethodRow]:
    """Return the rows, the busiest first."""
    rows = []
    for path, method in methods.items():
        recent, ended = sums.get(path, _Sum()), sum(method.handled)
        rows.append(
            MethodRow(
                path,
                method.kind,
                method.started,
                ended - method.handled[OK.code],
                method.started - ended,
                recent.calls,
                recent.errors,
                recent.seconds.quantiles(PARTS),
            )
        )
    return sorted(rows, key=lambda row: (-row.recent_calls, row.method))


def _target_row(name: str, target: TargetSnapshot, recent: _Sum, last_failure: CallRecord | None) -> TargetRow:
    return TargetRow(
        name,
        target.in_flight,
        target.queued,
        target.limit,
        recent.calls,
        recent.errors,
        recent.seconds.quantiles(PARTS),
        target.waits.quantiles(PARTS),
        dict(target.queue_refused),
        target.retries,
        dict(target.throttled),
        target.cold_starts,
        target.attached_instances,
        last_failure,
    )
