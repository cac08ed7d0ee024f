"""Snapshot: all figures of a process at one moment, as plain values that travel between processes and add up.

In: the counters of bridge.rpc.figures. Out: what metrics and the status page are made of. A worker's snapshot is encoded by
msgspec and added to the others' by the process that answers. It counts nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from bridge.rpc.figures import (
    BYTES,
    SECONDS,
    BridgeFigures,
    Histogram,
    MethodFigures,
    TargetFigures,
)
from bridge.rpc.status import CODES

Counts = dict[str, int]


class HistogramSnapshot(Struct):
    bounds: tuple[float, ...]
    counts: list[int]
    """Not cumulative: one count for each bound, one for what lies above them all."""
    total: float = 0.0

    def add(self, other: HistogramSnapshot) -> None:
        """The other has the same bounds: both come from the same code."""
        self.counts = _sums(self.counts, other.counts)
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, part: float) -> float | None:
        """The value that this part (0 to 1) of all lie below, estimated within its bucket; infinity above the last bound.

        None if nothing was observed.
        """
        mark = part * self.count
        if not self.count:
            return None
        below, lower = 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= mark:
                return lower + (bound - lower) * (mark - below) / count
            below, lower = below + count, bound
        return float("inf")


def no_seconds() -> HistogramSnapshot:
    return HistogramSnapshot(SECONDS, [0] * (len(SECONDS) + 1))


def no_bytes() -> HistogramSnapshot:
    return HistogramSnapshot(BYTES, [0] * (len(BYTES) + 1))


class MethodSnapshot(Struct):
    service: str = ""
    method: str = ""
    kind: str = "unknown"
    started: int = 0
    handled: list[int] = field(default_factory=lambda: [0] * len(CODES))
    """By status code."""
    received: int = 0
    sent: int = 0
    seconds: HistogramSnapshot = field(default_factory=no_seconds)
    upstream: HistogramSnapshot = field(default_factory=no_seconds)
    request_bytes: HistogramSnapshot = field(default_factory=no_bytes)
    response_bytes: HistogramSnapshot = field(default_factory=no_bytes)

    def add(self, other: MethodSnapshot) -> None:
        if self.kind == "unknown":
            self.kind = other.kind
        self.started += other.started
        self.handled = _sums(self.handled, other.handled)
        self.received += other.received
        self.sent += other.sent
        self.seconds.add(other.seconds)
        self.upstream.add(other.upstream)
        self.request_bytes.add(other.request_bytes)
        self.response_bytes.add(other.response_bytes)


class TargetSnapshot(Struct):
    in_flight: int = 0
    retries: int = 0
    cold_starts: int = 0
    throttled: Counts = field(default_factory=dict)
    """By AWS's reason."""

    def add(self, other: TargetSnapshot) -> None:
        self.in_flight += other.in_flight
        self.retries += other.retries
        self.cold_starts += other.cold_starts
        _add_counts(self.throttled, other.throttled)


class ProcessSnapshot(Struct):
    """What the operating system says of the process. None: it does not say."""

    cpu_seconds: float = 0.0
    started: float | None = None
    """Unix time."""
    resident_bytes: int | None = None
    virtual_bytes: int | None = None
    open_files: int | None = None
    max_files: int | None = None

    def add(self, other: ProcessSnapshot) -> None:
        """Sums but for the start: the oldest process's."""
        self.cpu_seconds += other.cpu_seconds
        self.started = _of_present(min, self.started, other.started)
        self.resident_bytes = _sum_of_present(self.resident_bytes, other.resident_bytes)
        self.virtual_bytes = _sum_of_present(self.virtual_bytes, other.virtual_bytes)
        self.open_files = _sum_of_present(self.open_files, other.open_files)
        self.max_files = _sum_of_present(self.max_files, other.max_files)


class Snapshot(Struct):
    methods: dict[str, MethodSnapshot] = field(default_factory=dict)
    """By `/package.Service/Method`."""
    targets: dict[str, TargetSnapshot] = field(default_factory=dict)
    """By the target's name."""
    connections_open: int = 0
    connections_accepted: int = 0
    connections_refused: Counts = field(default_factory=dict)
    streams_open: int = 0
    buffered_bytes: int = 0
    shortened_headers: int = 0
    shortened_trailers: int = 0
    protocol_errors: Counts = field(default_factory=dict)
    refused: Counts = field(default_factory=dict)
    credentials_age: float | None = None
    """Seconds since the oldest credentials in use were fetched; None: there are none."""
    process: ProcessSnapshot = field(default_factory=ProcessSnapshot)

    def add(self, other: Snapshot) -> None:
        """Takes in another process's figures; what it brings new belongs to this one from then on."""
        for path, method in other.methods.items():
            self.add_method(path, method)
        for name, target in other.targets.items():
            self.add_target(name, target)
        self.connections_open += other.connections_open
        self.connections_accepted += other.connections_accepted
        _add_counts(self.connections_refused, other.connections_refused)
        self.streams_open += other.streams_open
        self.buffered_bytes += other.buffered_bytes
        self.shortened_headers += other.shortened_headers
        self.shortened_trailers += other.shortened_trailers
        _add_counts(self.protocol_errors, other.protocol_errors)
        _add_counts(self.refused, other.refused)
        self.credentials_age = _of_present(max, self.credentials_age, other.credentials_age)
        self.process.add(other.process)

    def counts(self) -> Snapshot:
        """What still counts when the process has ended: what it did, and nothing that it held."""
        targets = {name: replace(target, in_flight=0) for name, target in self.targets.items()}
        return replace(
            self,
            targets=targets,
            connections_open=0,
            streams_open=0,
            buffered_bytes=0,
            credentials_age=None,
            process=ProcessSnapshot(cpu_seconds=self.process.cpu_seconds),
        )

    def add_method(self, path: str, method: MethodSnapshot) -> None:
        known = self.methods.setdefault(path, method)
        if known is not method:
            known.add(method)

    def add_target(self, name: str, target: TargetSnapshot) -> None:
        known = self.targets.setdefault(name, target)
        if known is not target:
            known.add(target)


def take_snapshot(
    bridge: BridgeFigures,
    *,
    methods: Iterable[MethodFigures],
    targets: Iterable[TargetFigures],
    credentials_age: float | None = None,
    process: ProcessSnapshot | None = None,
) -> Snapshot:
    """The figures as they are now; targets of the same name are summed."""
    snapshot = Snapshot(
        connections_open=bridge.connections_open,
        connections_accepted=bridge.connections_accepted,
        connections_refused=dict(bridge.connections_refused),
        streams_open=bridge.streams_open,
        buffered_bytes=bridge.buffers.held,
        shortened_headers=bridge.shortened_headers,
        shortened_trailers=bridge.shortened_trailers,
        protocol_errors=dict(bridge.protocol_errors),
        refused=dict(bridge.refused),
        credentials_age=credentials_age,
        process=process or ProcessSnapshot(),
    )
    for method in methods:
        snapshot.add_method(f"/{method.service}/{method.method}", _of_method(method))
    for target in targets:
        snapshot.add_target(target.name, _of_target(target))
    return snapshot


def _of_method(figures: MethodFigures) -> MethodSnapshot:
    figures.tally()
    return MethodSnapshot(
        service=figures.service,
        method=figures.method,
        kind=figures.kind,
        started=figures.started,
        handled=list(figures.handled),
        received=figures.received,
        sent=figures.sent,
        seconds=_of_histogram(figures.seconds),
        upstream=_of_histogram(figures.upstream),
        request_bytes=_of_histogram(figures.request_bytes),
        response_bytes=_of_histogram(figures.response_bytes),
    )


def _of_target(figures: TargetFigures) -> TargetSnapshot:
    return TargetSnapshot(
        in_flight=figures.in_flight,
        retries=figures.retries,
        cold_starts=figures.cold_starts,
        throttled=dict(figures.throttled),
    )


def _of_histogram(histogram: Histogram) -> HistogramSnapshot:
    return HistogramSnapshot(histogram.bounds, list(histogram.counts), histogram.total)


def _sums(left: list[int], right: list[int]) -> list[int]:
    return [one + other for one, other in zip(left, right, strict=True)]


def _add_counts(counts: Counts, others: Counts) -> None:
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count


def _of_present(
    choose: Callable[[float, float], float], one: float | None, other: float | None
) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def _sum_of_present(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
