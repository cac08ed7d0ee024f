"""admit with a queue: calls wait their turn, throttled calls come back, and nobody waits in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable

import pytest

from bridge.layers.admit import admit
from bridge.layers.gate import Gate
from bridge.rpc.buffers import Buffers
from bridge.rpc.call import Call
from bridge.rpc.errors import (
    DeadlineExceeded,
    FunctionFailed,
    HttpThrottled,
    Overloaded,
    QueueRefused,
    Quota,
    RpcError,
    Throttled,
)
from bridge.rpc.events import EMPTY_HEADERS, OK_TRAILERS
from bridge.rpc.figures import TargetFigures
from bridge.rpc.limits import Limits, QueueLimits
from bridge.rpc.status import StatusCode
from tests.support.running import RunningCall

NO_WAIT = 0.0


class Function:
    """A function that takes so many calls at a time, each until it is told to answer. It throttles more."""

    def __init__(self, takes: int = 1000, *, retry_after: float | None = None) -> None:
        self.takes = takes
        self.retry_after = retry_after
        self.quota = Quota.FUNCTION
        self.reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
        self.sent: list[Call] = []
        """Every attempt."""
        self.running: dict[Call, asyncio.Future[None]] = {}

    async def handle(self, call: Call) -> None:
        self.sent.append(call)
        if len(self.running) >= self.takes:
            error = Throttled("busy", retry_after=self.retry_after, throttle_reason=self.reason)
            error.quota = self.quota
            raise error
        self.running[call] = asyncio.get_running_loop().create_future()
        try:
            await self.running[call]
            call.send(OK_TRAILERS)
        finally:
            del self.running[call]

    async def answer(self, count: int = 1) -> None:
        """Let those that came first end."""
        for call in list(self.running)[:count]:
            self.running[call].set_result(None)
        await settle()

    async def fail(self, error: RpcError) -> None:
        self.running[next(iter(self.running))].set_exception(error)
        await settle()


def now() -> float:
    """The time of the loop. It is simulated."""
    return asyncio.get_running_loop().time()


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


class Target:
    """One target before a function."""

    def __init__(
        self,
        function: Function,
        *,
        gate: Gate | None = None,
        max_concurrency: int = 100,
        queue: QueueLimits | None = QueueLimits(),  # noqa: B008 - a frozen value
        repeats: bool = True,
        learns: bool = True,
        tenants: bool = False,
    ) -> None:
        self.gate = gate or Gate(clock=now, learns=learns)
        self.figures = TargetFigures("orders")
        self._number = 0
        self.layer = admit(
            function.handle,
            target=self.figures,
            gate=self.gate,
            max_concurrency=max_concurrency,
            queue=queue,
            buffers=Buffers(1 << 30),
            gathers=True,
            clock=now,
            repeats=repeats,
            tenant_of=(lambda call: call.metadata) if tenants else None,
        )
        self.tasks: list[asyncio.Task[None]] = []

    async def call(
        self,
        connection: Hashable = "c",
        *,
        deadline: float | None = None,
        limits: Limits | None = None,
        tenant: str = "",
    ) -> RunningCall:
        call = RunningCall(deadline=deadline, limits=limits, metadata=((tenant, ""),))
        call.connection = connection
        self._number += 1
        call.started = now() + self._number * 1e-6
        self.tasks.append(call.run(self.layer))
        await settle()
        return call

    async def calls(self, count: int, connection: Hashable = "c") -> list[RunningCall]:
        return [await self.call(connection) for _ in range(count)]

    def error(self, number: int = -1) -> BaseException | None:
        return self.tasks[number].exception()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def ending() -> AsyncIterator[list[Target]]:
    """Targets whose calls end with the test. Then nothing may be left of them."""
    targets: list[Target] = []
    yield targets
    for target in targets:
        await target.end()
        assert 0 == target.figures.in_flight
        assert 0 == target.figures.queued
        assert 0 == len(target.gate.line.member(target.figures.places).turns)


@pytest.fixture
def function() -> Function:
    return Function()


async def test_calls_beyond_max_concurrency_wait_their_turn(function: Function, ending: list[Target]) -> None:
    """And are sent in order as places get free."""
    ending.append(target := Target(function, max_concurrency=2))
    calls = await target.calls(5)
    waiting = target.figures.queued
    await function.answer(2)
    await function.answer(3)

    assert 3 == waiting
    assert calls == function.sent
    assert all(call.status is not None for call in calls[:4])


async def test_a_neighbour_waits_a_single_turn(function: Function, ending: list[Target]) -> None:
    ending.append(target := Target(function, max_concurrency=1))
    await target.calls(100, "greedy")
    new = await target.call("new")
    await function.answer()
    await function.answer()

    assert new in function.sent
    assert 3 == len(function.sent)


async def test_time_in_the_queue_is_counted(function: Function, ending: list[Target]) -> None:
    ending.append(target := Target(function, max_concurrency=1))
    first, second = await target.calls(2)
    await asyncio.sleep(1.5)
    await function.answer(1)

    assert 0.0 == first.queued_seconds
    assert pytest.approx(1.5, abs=0.001) == second.queued_seconds == target.figures.queue_seconds.total
    assert 1 == target.figures.queue_seconds.count


async def test_without_a_queue_calls_are_refused_at_once(function: Function, ending: list[Target]) -> None:
    ending.append(target := Target(function, max_concurrency=2, queue=None))
    await target.calls(3)

    assert isinstance(target.error(), Overloaded)
    assert "max_concurrency" in str(target.error())


async def test_a_client_that_leaves_gives_up_its_place(function: Function, ending: list[Target]) -> None:
    """In the queue, and when its turn has come but its task has not run yet."""
    ending.append(target := Target(function, max_concurrency=1))
    _, leaves, leaves_late, stays = await target.calls(4)
    target.tasks[1].cancel()
    await settle()
    function.running[next(iter(function.running))].set_result(None)
    await asyncio.sleep(0)
    target.tasks[2].cancel()
    await settle()

    assert stays in function.running
    assert leaves not in function.sent
    assert leaves_late not in function.sent or leaves_late not in function.running


# -- throttles ---------------------------------------------------------------------------------------------------------


async def test_a_burst_is_served_whole(function: Function, ending: list[Target]) -> None:
    """64 calls at a function that takes 8: 56 come back, wait, and are answered in order."""
    function.takes = 8
    ending.append(target := Target(function))
    calls = await target.calls(64)
    throttled = len(function.sent) - 8
    limit = target.gate.read_limit()
    while function.running:
        await asyncio.sleep(0.1)
        await function.answer(8)

    assert (1, 8) == (throttled, limit)
    assert all(call.status is not None for call in calls)


async def test_a_throttle_is_final_without_another_attempt(function: Function, ending: list[Target]) -> None:
    """`attempts: 1`, or `queue: null`."""
    function.takes = 0
    for target in (Target(function, repeats=False), Target(function, queue=None)):
        ending.append(target)
        await target.call()
        assert isinstance(target.error(), Throttled)


async def test_a_throttle_after_the_reply_began_is_final(ending: list[Target]) -> None:
    class Begins(Function):
        async def handle(self, call: Call) -> None:
            call.send(EMPTY_HEADERS)
            raise Throttled("busy")

    ending.append(target := Target(Begins()))
    await target.call()

    assert isinstance(target.error(), Throttled)


async def test_a_throttle_of_http_teaches_nothing_and_is_final(ending: list[Target]) -> None:
    """The server may have run the call."""

    class Web(Function):
        async def handle(self, call: Call) -> None:
            raise HttpThrottled("busy", retry_after=2.0)

    ending.append(target := Target(Web(), learns=False))
    await target.calls(2)

    assert all(isinstance(task.exception(), HttpThrottled) for task in target.tasks)
    assert target.gate.read_limit() is None
    assert not target.gate.line.is_watched


async def test_retry_after_beyond_the_wait_ends_the_call_at_once(function: Function, ending: list[Target]) -> None:
    """Nobody waits for what AWS says will not come."""
    function.takes, function.retry_after = 0, 3600.0
    ending.append(target := Target(function))
    await target.call()

    assert isinstance(target.error(), Throttled)


@pytest.mark.parametrize(("seconds", "waits"), [(2.0, False), (4.0, True), (None, True)])
async def test_retry_after_beyond_the_deadline_ends_the_call_at_once(
    seconds: float | None, waits: bool, function: Function, ending: list[Target]
) -> None:
    function.takes, function.retry_after = 0, 3.0
    ending.append(target := Target(function))
    await target.call(deadline=None if seconds is None else now() + seconds)

    assert waits is not target.tasks[0].done()


async def test_a_lone_throttled_call_is_sent_again_by_itself(function: Function, ending: list[Target]) -> None:
    """After a pause: no call in flight could tell when."""
    function.takes = 0
    ending.append(target := Target(function))
    call = await target.call()
    before = len(function.sent)
    function.takes = 1
    await asyncio.sleep(1.0)
    await function.answer()

    assert 1 == before
    assert [call, call] == function.sent
    assert call.status is not None
    assert 1 == target.figures.retries


async def test_failed_calls_teach_as_those_that_succeed(function: Function, ending: list[Target]) -> None:
    """A function that fails was taken by AWS."""
    function.takes = 1
    ending.append(target := Target(function))
    await target.calls(2)
    for _ in range(40):
        function.takes = 5
        await asyncio.sleep(0.1)
        await target.call()
        await function.fail(FunctionFailed("no"))

    assert 1 < (target.gate.read_limit() or 0)


async def test_entries_of_one_function_share_what_was_learned(function: Function, ending: list[Target]) -> None:
    function.takes = 3
    one = Target(function)
    other = Target(function, gate=one.gate)
    ending += [one, other]
    await one.calls(4)
    sent = len(function.sent)
    await other.calls(2)

    assert sent == len(function.sent)
    assert 2 == other.figures.queued
    await function.answer()
    assert sent + 1 == len(function.sent)


async def test_a_throttled_tenant_delays_only_itself(function: Function, ending: list[Target]) -> None:
    """AWS gives no reason of its own for it: calls of other tenants go on."""
    function.takes, function.reason, function.retry_after = 0, "", 5.0
    ending.append(target := Target(function, tenants=True))
    await target.call(tenant="busy")
    function.takes = 10
    other = await target.call(tenant="other")
    same = await target.call(tenant="busy")

    assert target.gate.read_limit() is None
    assert other in function.running
    assert same not in function.sent


# -- refusals ----------------------------------------------------------------------------------------------------------


def _refusal(target: Target, number: int = -1) -> QueueRefused:
    error = target.error(number)
    assert isinstance(error, QueueRefused)
    return error


async def test_a_full_queue_refuses(function: Function, ending: list[Target]) -> None:
    """RESOURCE_EXHAUSTED where `max_concurrency` is the limit; the text names the keys."""
    ending.append(target := Target(function, max_concurrency=1, queue=QueueLimits(calls=3)))
    await target.calls(5)
    error = _refusal(target)

    assert StatusCode.RESOURCE_EXHAUSTED is error.code
    assert "orders has 3 calls waiting" in str(error)
    assert "at most 3 (queue.calls)" in str(error)
    assert "(max_concurrency)" in str(error)
    assert () == error.trailing
    assert {"full": 1} == target.figures.queue_refused
    assert "queue_full" == error.reason


async def test_a_full_queue_of_throttled_calls_says_throttled_as(function: Function, ending: list[Target]) -> None:
    """With a pushback."""
    function.takes = 1
    ending.append(target := Target(function, queue=QueueLimits(calls=2)))
    for throttled_as in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED):
        await target.calls(3)
        await target.call(limits=Limits(throttled_as=throttled_as))
        error = _refusal(target)

        assert throttled_as is error.code
        assert "(queue.calls)" in str(error)
        assert "grpc-retry-pushback-ms" == error.trailing[0][0]


async def test_a_full_queue_makes_room_for_a_neighbour(function: Function, ending: list[Target]) -> None:
    """The newest call of the connection with the most is refused instead."""
    ending.append(target := Target(function, max_concurrency=1, queue=QueueLimits(calls=3)))
    await target.calls(4, "greedy")
    await target.call("new")
    error = _refusal(target, 3)

    assert "this call's connection or tenant has the most" in str(error)
    assert not target.tasks[-1].done()
    assert 3 == target.figures.queued


async def test_who_waits_too_long_is_refused(function: Function, ending: list[Target]) -> None:
    ending.append(target := Target(function, max_concurrency=1, queue=QueueLimits(wait=0.02)))
    await target.calls(2)
    await asyncio.wait([target.tasks[1]], timeout=10)
    error = _refusal(target)

    assert StatusCode.RESOURCE_EXHAUSTED is error.code
    assert "waited 0.02 s" in str(error)
    assert "(queue.wait)" in str(error)
    assert {"wait": 1} == target.figures.queue_refused
    await function.answer()
    assert 1 == len(function.sent)


async def test_a_throttled_call_that_waits_too_long_says_so(function: Function, ending: list[Target]) -> None:
    """The wait is counted over all its turns."""
    function.takes, function.retry_after = 1, 7.0
    ending.append(target := Target(function, queue=QueueLimits(wait=0.05)))
    await target.calls(2)
    await asyncio.sleep(0.04)
    await asyncio.wait([target.tasks[1]], timeout=10)
    error = _refusal(target)

    assert StatusCode.UNAVAILABLE is error.code
    assert "busy; the call waited 0.05 s" in str(error)
    assert (("grpc-retry-pushback-ms", "7000"),) == error.trailing


async def test_a_deadline_that_passes_in_the_queue_says_so(function: Function, ending: list[Target]) -> None:
    ending.append(target := Target(function, max_concurrency=1))
    _, waits = await target.calls(2)
    await asyncio.sleep(2.0)
    waits.abort(DeadlineExceeded("the deadline passed"))
    await settle()

    assert isinstance(waits.cause, DeadlineExceeded)
    assert "waited for its turn at orders (2 s)" in str(waits.cause)


async def _measure(target: Target, function: Function, count: int) -> None:
    """Let so many calls end while others wait, ten a second."""
    await target.calls(count + 20)
    for _ in range(count):
        await asyncio.sleep(0.1)
        await function.answer()


async def test_a_call_that_cannot_meet_its_deadline_is_refused_at_once(
    function: Function, ending: list[Target]
) -> None:
    """19 wait and ten a second are served: there is no hope for a call with a second left, and some with three."""
    ending.append(target := Target(function, max_concurrency=1))
    await _measure(target, function, 10)
    await target.call(deadline=now() + 1.0)
    error = _refusal(target)
    await target.call(deadline=now() + 3.0)

    assert StatusCode.DEADLINE_EXCEEDED is error.code
    assert "its deadline is in 1 s" in str(error)
    assert "would wait about 1.9 s" in str(error)
    assert {"deadline": 1} == target.figures.queue_refused
    assert not target.tasks[-1].done()


async def test_nobody_is_refused_for_a_deadline_before_ten_calls_were_measured(
    function: Function, ending: list[Target]
) -> None:
    ending.append(target := Target(function, max_concurrency=1))
    await _measure(target, function, 9)
    await target.call(deadline=now() + 0.01)

    assert not target.tasks[-1].done()


async def test_a_neighbour_with_its_turn_soon_is_not_refused_for_the_queue_of_others(
    function: Function, ending: list[Target]
) -> None:
    """Its turn comes next, however many calls of another connection wait."""
    ending.append(target := Target(function, max_concurrency=1))
    await _measure(target, function, 10)
    await target.call("new", deadline=now() + 1.0)

    assert not target.tasks[-1].done()
