"""Calls worth a look: which are kept, for how long, and what is told of them."""

from __future__ import annotations

from bridge.layers.notable import LEAST_SLOW_SECONDS, MOST_SLOW, SLOW_SECONDS, NotableCalls
from bridge.rpc.call import Call, Peer, Route
from bridge.rpc.errors import FunctionFailed
from bridge.rpc.events import OK_TRAILERS, Trailers
from bridge.rpc.figures import MethodFigures
from bridge.rpc.limits import Limits
from bridge.rpc.recent import MOST_CALLS
from bridge.rpc.status import Status, StatusCode
from tests.support.fakes import FakeClock, RecordingCall


async def _nobody(call: Call) -> None:
    raise AssertionError(f"{call.path} was served")


def ended(code: StatusCode = StatusCode.OK, **facts: object) -> RecordingCall:
    call = RecordingCall("/a.B/C", peer=Peer("10.0.0.9"))
    call.route = Route("a.B", _nobody, MethodFigures("a.B", "C"), Limits(), target="function:b")
    call.send(Trailers(Status(code, "it broke")) if code else OK_TRAILERS)
    for name, value in facts.items():
        setattr(call, name, value)
    return call


def test_a_failure_says_all_that_is_known() -> None:
    """Time, method, target, status, message, cause, ids, tenant, peer, stages. Secrets are taken out."""
    notable = NotableCalls(wall_clock=lambda: 5.0, redact=lambda text: text.replace("hunter2", "…"))
    cause = FunctionFailed("it broke")
    cause.__cause__ = ValueError("bad key hunter2")
    call = ended(
        StatusCode.UNKNOWN,
        attempts=2,
        cause=cause,
        request_id="c6af9ac6",
        tenant="acme",
        queued_seconds=0.5,
        upstream_seconds=1.5,
        is_cold_start=True,
        metadata=(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
    )
    notable.note(call, StatusCode.UNKNOWN, 2.0)
    (kept,) = notable.failures

    assert (5.0, "/a.B/C", "function:b", "UNKNOWN", "it broke") == (
        kept.time,
        kept.method,
        kept.target,
        kept.code,
        kept.message,
    )
    assert "FunctionFailed ← ValueError: bad key …" == kept.cause
    assert ("c6af9ac6", "0af7651916cd43dd8448eb211c80319c") == (kept.request_id, kept.trace_id)
    assert ("acme", "10.0.0.9", 2, True) == (kept.tenant, kept.peer, kept.attempts, kept.cold_start)
    assert (2.0, 0.5, 1.5) == (kept.seconds, kept.queued, kept.upstream)
    assert {"function:b": kept} == notable.last_failures


def test_a_flood_of_refusals_pushes_out_no_failure() -> None:
    """Clients choose how many calls fail before they reach a target."""
    notable = NotableCalls(wall_clock=FakeClock())
    notable.note(ended(StatusCode.INTERNAL, attempts=1), StatusCode.INTERNAL, 1.0)
    for _ in range(3 * MOST_CALLS):
        notable.note(ended(StatusCode.UNIMPLEMENTED), StatusCode.UNIMPLEMENTED, 0.0)

    assert (1, MOST_CALLS) == (len(notable.failures), len(notable.refusals))


def test_a_call_that_waited_in_vain_is_a_failure() -> None:
    """It reached its target's queue."""
    notable = NotableCalls(wall_clock=FakeClock())
    call = ended(StatusCode.UNAVAILABLE, queued_seconds=10.0)
    notable.note(call, StatusCode.UNAVAILABLE, 10.0)

    assert (1, 0) == (len(notable.failures), len(notable.refusals))


def test_the_slowest_calls_are_kept() -> None:
    """The threshold rises with them, so that most calls cost nothing; old ones go, and it falls again."""
    clock = FakeClock()
    notable = NotableCalls(wall_clock=clock)
    for seconds in range(1, 2 * MOST_SLOW + 1):
        notable.note(ended(), StatusCode.OK, float(seconds))
    kept = [each.seconds for each in notable.slow]

    assert [float(seconds) for seconds in range(2 * MOST_SLOW, MOST_SLOW, -1)] == kept
    assert MOST_SLOW + 1.0 == notable.slow_from
    assert not notable.failures
    clock.advance(SLOW_SECONDS + 1)
    notable.forget_old()
    assert ([], LEAST_SLOW_SECONDS) == (notable.slow, notable.slow_from)


def test_calls_of_the_bridge_itself_are_not_slow() -> None:
    """A Watch lasts as long as its client."""
    notable = NotableCalls(wall_clock=FakeClock())
    call = ended()
    call.route = Route("grpc.health.v1.Health", _nobody, MethodFigures("a.B", "C"), Limits())
    notable.note(call, StatusCode.OK, 3600.0)

    assert [] == notable.slow


def test_texts_are_bounded() -> None:
    notable = NotableCalls(wall_clock=FakeClock())
    call = ended(StatusCode.UNKNOWN, attempts=1, path="/" + "p" * 9000, tenant="t" * 9000, request_id="r" * 9000)
    call.cause = FunctionFailed("x")
    call.cause.__cause__ = ValueError("v" * 9000)
    notable.note(call, StatusCode.UNKNOWN, 1.0)
    (kept,) = notable.failures

    assert all(len(text) <= 300 for text in (kept.method, kept.tenant, kept.request_id, kept.cause))
