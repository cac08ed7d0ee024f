"""deadline: calls end at their deadline, in buckets of 5 ms, never before it."""

import asyncio

import pytest

from bridge.layers.deadline import Deadlines, deadline
from bridge.layers.rescue import rescue
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import DeadlineExceeded, RpcError
from bridge.rpc.events import OK_TRAILERS
from bridge.rpc.figures import BridgeFigures
from bridge.rpc.status import StatusCode
from tests.support.fakes import FakeClock, RecordingCall
from tests.support.running import RunningCall


async def _answer(call: Call) -> None:
    call.send(OK_TRAILERS)


async def _wait_for_ever(call: Call) -> None:
    await asyncio.get_running_loop().create_future()


class _Noting(RecordingCall):
    """Notes its path where the others do, when it is aborted."""

    def __init__(self, path: str, aborted: list[str]) -> None:
        super().__init__(path)
        self._aborted = aborted

    def abort(self, cause: RpcError) -> None:
        self._aborted.append(self.path)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _layer(inner: Handler, deadlines: Deadlines) -> Handler:
    return deadline(inner, deadlines=deadlines, clock=_now)


async def test_call_in_time_leaves_nothing_behind() -> None:
    """It is taken out of its bucket."""
    deadlines = Deadlines(asyncio.get_running_loop())
    call = RecordingCall(deadline=_now() + 60)
    await _layer(_answer, deadlines)(call)

    assert call.status is not None
    assert StatusCode.OK is call.status.code
    assert not any(deadlines._buckets.values())


async def test_failed_call_leaves_nothing_behind() -> None:
    """Whatever the inner layers raise."""

    async def fail(call: Call) -> None:
        raise ZeroDivisionError

    deadlines = Deadlines(asyncio.get_running_loop())

    with pytest.raises(ZeroDivisionError):
        await _layer(fail, deadlines)(RecordingCall(deadline=_now() + 60))
    assert not any(deadlines._buckets.values())


async def test_calls_of_the_same_moment_share_a_bucket() -> None:
    """Whether it has emptied in between or not."""
    deadlines = Deadlines(asyncio.get_running_loop())
    one, other = RecordingCall(), RecordingCall()
    bucket = deadlines.bucket(1e6 + 0.001)
    bucket.add(one)
    while_full = deadlines.bucket(1e6 + 0.002)
    bucket.discard(one)
    while_empty = deadlines.bucket(1e6 + 0.003)
    while_empty.add(other)

    assert bucket is while_full is while_empty
    assert bucket is not deadlines.bucket(1e6 + 0.006)


async def test_call_is_ended_in_a_bucket_that_was_empty_when_the_timer_was_set() -> None:
    """The timer had passed it over."""
    deadlines = Deadlines(asyncio.get_running_loop())
    aborted: list[str] = []
    now = _now()
    first, ended, late = (_Noting(name, aborted) for name in ("/first", "/ended", "/late"))
    for call, seconds in ((first, 0.02), (ended, 0.3), (late, 0.6)):
        deadlines.bucket(now + seconds).add(call)
    deadlines.bucket(now + 0.3).discard(ended)
    await asyncio.sleep(0.1)
    deadlines.bucket(now + 0.3).add(_Noting("/anew", aborted))
    await asyncio.sleep(1)

    assert not deadlines._buckets
    assert ["/first", "/anew", "/late"] == aborted


async def test_first_deadline_rings_first_in_whatever_order_they_come() -> None:
    """One timer serves all: it moves forward for a nearer deadline, and on to the next when it has rung."""
    deadlines = Deadlines(asyncio.get_running_loop())
    aborted: list[str] = []
    now = _now()
    for name, seconds in (("/late", 0.12), ("/early", 0.04), ("/ended", 0.06), ("/between", 0.08)):
        call = _Noting(name, aborted)
        bucket = deadlines.bucket(now + seconds)
        bucket.add(call)
        if name == "/ended":
            bucket.discard(call)
    await asyncio.sleep(1)

    assert not deadlines._buckets
    assert ["/early", "/between", "/late"] == aborted


async def test_deadlines_far_away_leave_nothing_that_grows() -> None:
    """A million calls an hour from their deadline, one after the other, must not leave a million buckets' ticks."""
    deadlines = Deadlines(asyncio.get_running_loop())
    call, waiting = RecordingCall(), RecordingCall()
    for number in range(20_000):
        bucket = deadlines.bucket(1e6 + number)
        bucket.add(call)
        bucket.discard(call)
        if not number % 10:
            bucket.add(waiting)

    assert set(deadlines._ticks) == deadlines._buckets.keys()
    assert len(deadlines._ticks) < 2 * 2000 + 1024
    assert 2000 == sum(map(len, deadlines._buckets.values()))


async def test_call_without_a_deadline_needs_no_timer() -> None:
    """Nor does one whose deadline no process lives to see."""
    deadlines = Deadlines(asyncio.get_running_loop())
    buckets: list[int] = []

    async def look(call: Call) -> None:
        buckets.append(sum(map(len, deadlines._buckets.values())))

    for at in (None, _now() + 30 * 24 * 3600, _now() + 60):
        await _layer(look, deadlines)(RecordingCall(deadline=at))

    assert [0, 0, 1] == buckets


async def test_deadline_that_has_passed_wakes_nobody() -> None:
    """`grpc-timeout: 0m`: the inner layers are never reached."""
    clock = FakeClock(100.0)
    layer = deadline(_wait_for_ever, deadlines=Deadlines(asyncio.get_running_loop()), clock=clock)

    with pytest.raises(DeadlineExceeded, match="when the call arrived"):
        await layer(RecordingCall(deadline=100.0))


async def test_calls_end_at_their_deadlines_and_never_before() -> None:
    """Thirty deadlines some milliseconds apart. A bucket is 5 ms, and the timer rings a millisecond after its end."""
    deadlines = Deadlines(asyncio.get_running_loop())
    lateness: list[float] = []

    async def note_the_end(call: Call) -> None:
        try:
            await _wait_for_ever(call)
        finally:
            assert call.deadline is not None
            lateness.append(_now() - call.deadline)

    layers = rescue(_layer(note_the_end, deadlines), figures=BridgeFigures())
    now = _now()
    calls = [RunningCall(deadline=now + 1 + step * 0.0037) for step in range(30)]
    await asyncio.wait([call.run(layers) for call in calls])

    assert [StatusCode.DEADLINE_EXCEEDED] * 30 == [call.status and call.status.code for call in calls]
    assert not any(deadlines._buckets.values())
    assert min(lateness) >= 0
    assert max(lateness) <= 0.0061
