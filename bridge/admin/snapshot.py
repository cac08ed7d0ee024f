"""Snapshot: all figures of a process at one moment, as plain values that travel between processes and add up.

In: the counters of bridge.rpc.figures. Out: what metrics and the status page are made of. A worker's snapshot is
encoded by msgspec and added to the others' by the process that answers. It counts nothing itself: it adds what is read
at that moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import field

from bridge.rpc.families import Family, Figures
from bridge.rpc.figures import (
    SECONDS_BUCKETS,
    BridgeCounts,
    BridgeFigures,
    MethodCounts,
    MethodFigures,
    TargetCounts,
    TargetFigures,
)
from bridge.rpc.recent import CallRecord, Exemplar, Recent, exemplars_of
from bridge.rpc.status import CAMEL_CASE_NAMES, StatusCode


class TargetSnapshot(TargetCounts):
    """The figures of one target, as a worker sends them to the supervisor."""

    in_flight: Annotated[int, Family("bridge_in_flight", "Calls in flight.", is_gauge=True)] = 0
    limit: Annotated[
        int | None,
        Family(
            "bridge_concurrency_limit",
            "Calls at a time that a function takes, learned from its throttles.",
            is_gauge=True,
        ),
    ] = None
    """None: no throttle has told."""


class ProcessSnapshot(Figures):
    """What the operating system says of the process. None: it does not say."""

    cpu_seconds: Annotated[float, Family("process_cpu_seconds", "Processor time used.")] = 0.0
    started: Annotated[
        float | None,
        Family("process_start_time_seconds", "Unix time of the start.", is_gauge=True, choose=min),
    ] = None
    """Unix time; of several processes the oldest one's."""
    resident_bytes: Annotated[int | None, Family("process_resident_memory_bytes", "Memory in use.", is_gauge=True)] = (
        None
    )
    virtual_bytes: Annotated[
        int | None, Family("process_virtual_memory_bytes", "Address space in use.", is_gauge=True)
    ] = None
    open_files: Annotated[int | None, Family("process_open_fds", "File descriptors open.", is_gauge=True)] = None
    max_files: Annotated[int | None, Family("process_max_fds", "File descriptors that may be open.", is_gauge=True)] = (
        None
    )


class Snapshot(BridgeCounts, kw_only=True):
    """The figures of one process at one moment. The supervisor adds up those of all workers."""

    methods: dict[str, MethodCounts] = field(default_factory=dict)
    """By `/package.Service/Method`."""
    targets: dict[str, TargetSnapshot] = field(default_factory=dict)
    """By the target's name."""
    buffered_bytes: Annotated[
        int,
        Family(
            "bridge_buffered_bytes",
            "Bytes held for calls: requests gathered, replies not taken yet, conversions.",
            is_gauge=True,
        ),
    ] = 0
    credentials_age: Annotated[
        float | None,
        Family(
            "bridge_credentials_age_seconds",
            "Age of the oldest AWS credentials in use.",
            is_gauge=True,
            choose=max,
        ),
    ] = None
    """Seconds since the oldest credentials in use were fetched, or None without credentials."""
    process: ProcessSnapshot = field(default_factory=ProcessSnapshot)
    recent: Recent | None = None
    """The last minutes, if they were asked for."""
    slow_exemplars: dict[str, dict[str, Exemplar]] = field(default_factory=dict)
    """Calls that were slow or failed, by method, then by the bucket of `grpc_server_handling_seconds`."""
    failure_exemplars: dict[str, dict[str, Exemplar]] = field(default_factory=dict)
    """Calls that failed, by method, then by the name of their code in `grpc_server_handled`."""


def take_snapshot(
    bridge: BridgeFigures,
    *,
    methods: Iterable[MethodFigures],
    targets: Iterable[TargetFigures],
    credentials_age: float | None = None,
    process: ProcessSnapshot | None = None,
    recent: Recent | None = None,
    slow: Sequence[CallRecord] = (),
    failures: Sequence[CallRecord] = (),
) -> Snapshot:
    """Return the figures as they are now. Targets of the same name are summed, and the parts of a method."""
    snapshot = bridge.taken(
        Snapshot,
        methods={},
        targets={},
        buffered_bytes=bridge.buffers.held,
        credentials_age=credentials_age,
        process=process or ProcessSnapshot(),
        recent=recent,
        slow_exemplars=exemplars_of((*slow, *failures), _bucket_of),
        failure_exemplars=exemplars_of(failures, lambda record: CAMEL_CASE_NAMES[StatusCode[record.code]]),
    )
    for method in methods:
        method.tally()
        counts = method.taken(MethodCounts)
        known = snapshot.methods.setdefault(f"/{method.service}/{method.method}", counts)
        if known is not counts:
            known.add(counts)
    for target in targets:
        limit = None if target.read_limit is None else target.read_limit()
        sums = target.taken(TargetSnapshot, in_flight=target.in_flight, limit=limit)
        first = snapshot.targets.setdefault(target.name, sums)
        if first is not sums:
            first.add(sums)
    return snapshot


def _bucket_of(record: CallRecord) -> str:
    """Return the place of the bucket, counted from 0: JSON's keys are texts."""
    return str(bisect_left(SECONDS_BUCKETS, record.seconds))
