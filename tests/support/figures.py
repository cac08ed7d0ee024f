"""Figures in which every kind of number has been counted."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.admin.snapshot import ProcessSnapshot, Snapshot, take_snapshot
from bridge.rpc.figures import BridgeFigures, MethodFigures, TargetFigures
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall


@dataclass(slots=True)
class CountedCall:
    """What a call counted about itself."""

    messages_received: int = 1
    messages_sent: int = 2
    bytes_received: int = 100
    bytes_sent: int = 2000
    upstream_seconds: float = 0.02


def full_snapshot() -> Snapshot:
    """One method with an OK and a NOT_FOUND call and one in flight, one target, and something of everything else."""
    method = MethodFigures("helloworld.Greeter", "SayHello", "unary")
    method.started = 3
    method.finished(CountedCall(), StatusCode.OK, 0.03)
    method.finished(CountedCall(upstream_seconds=0.0), StatusCode.NOT_FOUND, 2.0)
    target = TargetFigures("function:greeter")
    target.places.calls.add(RecordingCall())
    target.retries, target.cold_starts = 4, 5
    target.throttled["CallerRateLimitExceeded"] = 6
    target.read_limit = lambda: 21
    target.queued = 22
    target.queue_seconds.observe([0.02])
    target.queue_refused["full"] = 23
    bridge = BridgeFigures()
    bridge.connections_open, bridge.connections_accepted, bridge.streams_open = 7, 8, 9
    bridge.buffers.held, bridge.shortened_trailers = 10, 11
    bridge.shortened_headers = 15
    bridge.duplex_strangers = 24
    bridge.protocol_errors["rapid_reset"] = 12
    bridge.refused["NoRoute"] = 13
    bridge.connections_refused["total"] = 16
    return take_snapshot(
        bridge,
        methods=[method],
        targets=[target],
        credentials_age=14.0,
        process=ProcessSnapshot(15.0, 1.6e9, 17, 18, 19, 20),
    )


FULL_SNAPSHOT = full_snapshot()
