from __future__ import annotations

import pytest
from msgspec import msgpack

from bridge.admin.snapshot import ProcessSnapshot, Snapshot, take_snapshot
from bridge.rpc.figures import SECONDS_BUCKETS, BridgeFigures, MethodFigures, TargetFigures
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall
from tests.support.figures import full_snapshot


def test_a_snapshot_travels() -> None:
    """A worker's figures come back from the wire as they were."""
    snapshot = full_snapshot()

    assert snapshot == msgpack.decode(msgpack.encode(snapshot), type=Snapshot)


def test_a_snapshot_does_not_change_with_the_figures() -> None:
    """What is counted afterwards is not in it."""
    method, target, bridge = MethodFigures("a.B", "C"), TargetFigures("t"), BridgeFigures()
    snapshot = take_snapshot(bridge, methods=[method], targets=[target])
    before = msgpack.encode(snapshot)
    method.handled[0] += 1
    method.seconds.counts[SECONDS_BUCKETS.index(1.0)] += 1
    method.seconds.total += 1.0
    target.throttled["x"] += 1
    bridge.refused["x"] += 1
    bridge.connections_refused["idle"] += 1

    assert before == msgpack.encode(snapshot)


def test_workers_add_up() -> None:
    """Two workers with the same figures have twice of everything that is a count."""
    total = full_snapshot()
    total.add(full_snapshot())
    method, target = (
        total.methods["/helloworld.Greeter/SayHello"],
        total.targets["function:greeter"],
    )

    assert (6, 2, 2) == (method.started, method.handled[0], method.handled[5])
    assert (4, 8) == (method.received, method.sent)
    assert 4 == method.seconds.count
    assert pytest.approx(4.06) == method.seconds.total
    assert (2, 4, 4) == (
        method.upstream.count,
        method.request_bytes.count,
        method.response_bytes.count,
    )
    assert (2, 8, 10) == (target.in_flight, target.retries, target.cold_starts)
    assert {"CallerRateLimitExceeded": 12} == target.throttled
    assert (14, 16, 18) == (
        total.connections_open,
        total.connections_accepted,
        total.streams_open,
    )
    assert (20, 22, 30) == (
        total.buffered_bytes,
        total.shortened_trailers,
        total.shortened_headers,
    )
    assert ({"rapid_reset": 24}, {"NoRoute": 26}) == (total.protocol_errors, total.refused)


def test_a_process_that_has_ended_keeps_its_counts_only() -> None:
    """What it held (connections, streams, buffers, memory, credentials) went with it; what it did stays done."""
    former = full_snapshot()
    counts = former.counts()

    assert former.methods == counts.methods
    assert [0] == [target.in_flight for target in counts.targets.values()]
    assert [4] == [target.retries for target in counts.targets.values()]
    assert (0, 8, 0) == (counts.connections_open, counts.connections_accepted, counts.streams_open)
    assert (0, 11) == (counts.buffered_bytes, counts.shortened_trailers)
    assert ({"rapid_reset": 12}, {"NoRoute": 13}) == (counts.protocol_errors, counts.refused)
    assert counts.credentials_age is None
    assert ProcessSnapshot(cpu_seconds=former.process.cpu_seconds) == counts.process


def test_ages_and_starts_do_not_add_up() -> None:
    """The oldest credentials and the oldest process count; memory and files are sums."""
    total = Snapshot(credentials_age=3.0, process=ProcessSnapshot(1.0, 200.0, 1, 2, 3, 4))
    total.add(Snapshot(credentials_age=9.0, process=ProcessSnapshot(1.0, 100.0, 1, 2, 3, 4)))

    assert 9.0 == total.credentials_age
    assert ProcessSnapshot(2.0, 100.0, 2, 4, 6, 8) == total.process


@pytest.mark.parametrize("absent_first", [True, False])
def test_what_one_worker_does_not_know_the_other_may(absent_first: bool) -> None:
    """A missing figure leaves the other's alone."""
    known = Snapshot(credentials_age=9.0, process=ProcessSnapshot(1.0, 100.0, 5))
    unknown = Snapshot()
    total, other = (unknown, known) if absent_first else (known, unknown)
    total.add(other)

    assert (9.0, 100.0, 5) == (
        total.credentials_age,
        total.process.started,
        total.process.resident_bytes,
    )


def test_what_only_one_worker_saw_is_kept() -> None:
    """Methods, targets and reasons of one worker appear in the sum."""
    total = Snapshot()
    total.add(full_snapshot())

    assert full_snapshot() == total


def test_a_kind_learnt_by_one_worker_holds() -> None:
    """Descriptors that one worker got from a function name the method's type."""
    total = take_snapshot(BridgeFigures(), methods=[MethodFigures("a.B", "C")], targets=[])
    total.add(take_snapshot(BridgeFigures(), methods=[MethodFigures("a.B", "C", "unary")], targets=[]))

    assert "unary" == total.methods["/a.B/C"].kind


def test_targets_of_one_name_are_one() -> None:
    """A function that two entries lead to is counted once, with the calls of both."""
    one, other = TargetFigures("t"), TargetFigures("t")
    one.retries, other.retries = 1, 2
    snapshot = take_snapshot(BridgeFigures(), methods=[], targets=[one, other])

    assert 3 == snapshot.targets["t"].retries


def test_a_method_is_the_sum_of_what_its_targets_answer() -> None:
    """Metrics have one row for it."""
    parts = [MethodFigures("a.B", "C", target=name) for name in ("t", "u")]
    for part in parts:
        part.finished(RecordingCall(), StatusCode.OK, 0.1)
    snapshot = take_snapshot(BridgeFigures(), methods=parts, targets=[])

    assert [2] == [method.handled[0] for method in snapshot.methods.values()]
