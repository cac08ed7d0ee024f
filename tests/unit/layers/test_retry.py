"""retry: only what provably did not run, within attempts, budget and deadline."""

import asyncio

import pytest

from bridge.layers.retry import Budget, retry
from bridge.rpc.call import Call, Handler
from bridge.rpc.errors import (
    AccessRefused,
    ConnectionLost,
    FunctionFailed,
    HttpThrottled,
    NotStarted,
    RpcError,
    ServiceFailed,
    Throttled,
    Unreachable,
)
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits, RetryPolicy
from bridge.rpc.status import StatusCode
from tests.support.fakes import RecordingCall
from tests.support.running import RunningCall

_FINAL = (AccessRefused("no"), ConnectionLost("lost"), FunctionFailed("no"), ServiceFailed("no"))


class Pauses:
    """Notes on the loop's clock how long after an attempt the next one begins."""

    def __init__(self) -> None:
        self._failed_at: float | None = None
        self._began = _now()
        self.taken: list[float] = []

    @property
    def seconds_in_all(self) -> float:
        return _now() - self._began

    def between(self, inner: Handler) -> Handler:
        async def noted(call: Call) -> None:
            if self._failed_at is not None:
                self.taken.append(_now() - self._failed_at)
            try:
                await inner(call)
            finally:
                self._failed_at = _now()

        return noted


def _now() -> float:
    return asyncio.get_running_loop().time()


def _seconds(*expected: float) -> object:
    """These pauses, and what a few turns of the loop take."""
    return pytest.approx(list(expected), abs=0.0001)


def _failing(*errors: RpcError) -> Handler:
    """Raises each error once, then answers."""
    left = list(errors)

    async def handler(call: Call) -> None:
        if left:
            raise left.pop(0)
        call.send(OK_TRAILERS)

    return handler


def _layer(
    inner: Handler,
    pauses: Pauses | None = None,
    *,
    policy: RetryPolicy | None = None,
    target: TargetFigures | None = None,
    random: float = 1.0,
) -> Handler:
    return retry(
        inner if pauses is None else pauses.between(inner),
        policy=policy or RetryPolicy(),
        target=target or TargetFigures("orders"),
        clock=_now,
        random=lambda: random,
    )


@pytest.mark.parametrize("error", [NotStarted("soon"), Unreachable("no route")])
async def test_call_that_did_not_run_is_repeated(
    error: RpcError,
) -> None:
    """The client sees only the success; the repetition is counted."""
    target, call = TargetFigures("orders"), RecordingCall()
    await _layer(_failing(error), target=target)(call)

    assert [OK_TRAILERS] == call.events
    assert (2, 1) == (call.attempts, target.retries)


@pytest.mark.parametrize("error", _FINAL, ids=lambda error: error.reason)
async def test_what_may_have_run_or_cannot_improve_is_not_repeated(
    error: RpcError,
) -> None:
    """The error is the answer, at once."""
    call, pauses = RecordingCall(), Pauses()

    with pytest.raises(type(error)):
        await _layer(_failing(error))(call)
    assert 1 == call.attempts
    assert pauses.seconds_in_all < 0.0001


async def test_call_that_has_begun_to_answer_is_not_repeated() -> None:
    """The client has seen headers; a second run would send them twice."""

    async def begins(call: Call) -> None:
        call.send(EMPTY_HEADERS)
        raise Unreachable("lost it")

    call = RecordingCall()

    with pytest.raises(Unreachable):
        await _layer(begins)(call)
    assert 1 == call.attempts


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_attempts_count_the_first(
    attempts: int,
) -> None:
    """After that many the last error is the answer."""
    call = RecordingCall()
    errors = [Unreachable(f"attempt {number}") for number in range(1, 10)]

    with pytest.raises(Unreachable, match=f"attempt {attempts}"):
        await _layer(_failing(*errors), policy=RetryPolicy(attempts=attempts))(call)
    assert attempts == call.attempts


async def test_pauses_double_up_to_the_most() -> None:
    """50 ms, 100, 200, ... times the random number."""
    pauses = Pauses()
    policy = RetryPolicy(attempts=6, max_backoff=0.3)
    errors = [Unreachable("no") for _ in range(5)]
    await _layer(_failing(*errors), pauses, policy=policy, random=0.5)(RecordingCall())

    assert _seconds(0.025, 0.05, 0.1, 0.15, 0.15) == pauses.taken


async def test_very_many_attempts_do_not_overflow() -> None:
    """The power of two stays within bounds."""
    call, pauses = RecordingCall(), Pauses()
    call.attempts = 5000
    policy = RetryPolicy(attempts=10_000)
    await _layer(_failing(Unreachable("no")), pauses, policy=policy)(call)

    assert _seconds(2.0) == pauses.taken


async def test_longer_of_retry_after_and_backoff_is_waited() -> None:
    """AWS's wish is a lower bound."""
    pauses = Pauses()
    errors = [NotStarted("soon", retry_after=3.0), NotStarted("soon", retry_after=0.001)]
    await _layer(_failing(*errors), pauses)(RecordingCall())

    assert _seconds(3.0, 0.1) == pauses.taken


@pytest.mark.parametrize("seconds_left", [2.9, 3.0])
async def test_wait_that_passes_the_deadline_is_not_begun(seconds_left: float) -> None:
    """The client learns the reason now instead of DEADLINE_EXCEEDED later."""
    pauses = Pauses()
    layer = _layer(_failing(NotStarted("soon", retry_after=3.0)))

    with pytest.raises(NotStarted) as caught:
        await layer(RecordingCall(deadline=_now() + seconds_left))
    assert pauses.seconds_in_all < 0.0001
    assert (("grpc-retry-pushback-ms", "3000"),) == caught.value.trailing


async def test_very_long_retry_after_is_the_clients_to_wait() -> None:
    """Even without a deadline no call holds its place for an hour."""
    pauses = Pauses()
    layer = _layer(_failing(NotStarted("soon", retry_after=3600.0)))

    with pytest.raises(NotStarted):
        await layer(RecordingCall())
    assert pauses.seconds_in_all < 0.0001


async def test_throttling_has_the_status_that_the_route_wants() -> None:
    """`throttled_as`; the throttles are counted by AWS's reason."""
    target = TargetFigures("orders")
    call = RecordingCall(limits=Limits(throttled_as=StatusCode.RESOURCE_EXHAUSTED))
    errors = [Throttled("busy", throttle_reason="CallerRateLimitExceeded"), Throttled("busy")]
    layer = _layer(_failing(*errors), target=target)

    for _ in errors:
        with pytest.raises(Throttled) as caught:
            await layer(call)
        assert StatusCode.RESOURCE_EXHAUSTED is caught.value.status.code
    assert {"CallerRateLimitExceeded": 1, "unknown": 1} == dict(target.throttled)


async def test_a_throttle_is_left_to_the_queue() -> None:
    """It is not repeated here, and takes neither an attempt nor the budget: two more attempts are left afterwards."""
    target, call = TargetFigures("orders"), RecordingCall()
    script = [Throttled("busy"), Throttled("busy"), Unreachable("no route"), Unreachable("no route")]
    layer = _layer(_failing(*script), policy=RetryPolicy(attempts=3, budget=0.0), target=target)

    for _ in range(2):
        with pytest.raises(Throttled):
            await layer(call)
        assert 0 == target.retries
    await layer(call)

    assert [OK_TRAILERS] == call.events
    assert (5, 2, 2) == (call.attempts, call.throttles, target.retries)


async def test_http_429_has_that_status_too_and_is_not_repeated() -> None:
    """Nothing proves that the function did not run."""
    pauses = Pauses()
    target = TargetFigures("web")
    call = RecordingCall(limits=Limits(throttled_as=StatusCode.RESOURCE_EXHAUSTED))
    layer = _layer(_failing(HttpThrottled("busy", retry_after=2.0)), target=target)

    with pytest.raises(HttpThrottled) as caught:
        await layer(call)
    assert StatusCode.RESOURCE_EXHAUSTED is caught.value.status.code
    assert {"unknown": 1} == dict(target.throttled)
    assert pauses.seconds_in_all < 0.0001


async def test_outage_is_not_multiplied() -> None:
    """With a budget of 20 % a thousand failing calls cause some two hundred retries, not two thousand."""
    target = TargetFigures("orders")

    async def down(call: Call) -> None:
        raise Unreachable("down")

    layer = _layer(down, target=target)
    for _ in range(1000):
        with pytest.raises(Unreachable):
            await layer(RecordingCall())

    assert 200 <= target.retries <= 211


async def test_cancelled_wait_ends_at_once() -> None:
    """An abort reaches the handler in its pause."""
    policy = RetryPolicy(backoff=50.0, max_backoff=50.0)
    layer = _layer(_failing(Unreachable("no")), policy=policy)
    task = RunningCall().run(layer)
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_throttles_earn_no_retries() -> None:
    """A call that comes back from the queue again and again is one call for the budget."""
    target = TargetFigures("orders")
    errors: list[RpcError] = [Throttled("busy")] * 1000 + [Unreachable("no route")] * 1000
    layer = _layer(_failing(*errors), policy=RetryPolicy(attempts=2, budget=0.5), target=target)

    for _ in range(1000):
        with pytest.raises(Throttled):
            await layer(RecordingCall())
    for _ in range(100):
        with pytest.raises(Unreachable):
            await layer(RecordingCall())
    assert 55 <= target.retries <= 61


def test_quiet_route_may_retry_a_few_times() -> None:
    """The reserve; after it each retry is earned by calls."""
    budget = Budget(0.5)
    reserve = sum(budget.spend() for _ in range(100))
    budget.calls += 1
    too_early = budget.spend()
    budget.calls += 1

    assert (10, False, True) == (reserve, too_early, budget.spend())


def test_savings_are_bounded() -> None:
    """A long quiet time does not pay for a storm."""
    budget = Budget(0.2)
    for _ in range(100_000):
        budget.calls += 1

    assert 210 == sum(budget.spend() for _ in range(100_000))
