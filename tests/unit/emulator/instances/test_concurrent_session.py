"""The conversation of a runtime that serves many invocations at once, without HTTP."""

from __future__ import annotations

import random

import pytest

from bridge.emulator.instances.concurrent_session import ConcurrentSession, InvocationTimedOut, TooManyWaiting
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.lifecycle import Act, InvalidTransition
from bridge.emulator.instances.runtime_session import Delivery, UnknownInvocation

BOTH = pytest.mark.parametrize("act", [Act.RESPONSE, Act.ERROR])


class Transcript(list[str]):
    """An instance that writes down what it is told."""

    def runtime_ready(self) -> None:
        self.append("ready")

    def runtime_failed(self, failure: Failure) -> None:
        self.append(f"failed {failure.error_type}")

    def runtime_answered(self, request_id: str, failure: Failure | None) -> None:
        self.append(f"{request_id} {failure.error_type if failure else 'well'}")


class Worker:
    """One worker of the runtime, with a connection of its own."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.was_displaced = False

    def take(self, delivery: Delivery) -> None:
        self.got.append(delivery.invocation.request_id)

    def give_way(self) -> None:
        self.was_displaced = True


@pytest.fixture
def told() -> Transcript:
    return Transcript()


@pytest.fixture
def session(told: Transcript) -> ConcurrentSession:
    return ConcurrentSession(told, 3)


def poll(session: ConcurrentSession, worker: Worker, *, is_known: bool = False) -> None:
    session.poll(worker.take, is_known=is_known, displaced=worker.give_way)


def deliver(session: ConcurrentSession, request_id: str) -> None:
    session.deliver(Delivery(Invocation(request_id, b"{}", "arn", "trace"), 1), Reply())


async def test_each_worker_gets_an_invocation_of_its_own(session: ConcurrentSession, told: Transcript) -> None:
    """The one that has waited longest is the next; answers come in any order."""
    workers = [Worker() for _ in range(3)]
    for number, worker in enumerate(workers):
        poll(session, worker)
        assert number + 1 == session.workers
    for request_id in "abc":
        assert session.is_ready
        deliver(session, request_id)
    assert not session.is_ready
    for request_id in "cab":
        session.open_reply(request_id, Act.RESPONSE)
        session.answer(request_id)

    assert [["a"], ["b"], ["c"]] == [worker.got for worker in workers]
    assert ["ready", "ready", "ready", "c well", "a well", "b well"] == told
    assert 3 == session.workers


async def test_a_worker_that_has_answered_counts_until_it_is_back(session: ConcurrentSession) -> None:
    worker = Worker()
    for request_id in "ab":
        poll(session, worker)
        deliver(session, request_id)
        session.open_reply(request_id, Act.RESPONSE)
        session.answer(request_id)
        assert (1, False) == (session.workers, session.is_ready)
    poll(session, worker)
    assert (1, True) == (session.workers, session.is_ready)


def test_more_requests_than_the_instance_takes_are_refused(session: ConcurrentSession) -> None:
    """Until one of them has been used, or its connection is gone."""
    workers = [Worker() for _ in range(4)]
    for worker in workers[:3]:
        poll(session, worker)
    with pytest.raises(TooManyWaiting):
        poll(session, workers[3])
    session.forget(workers[0].take)
    poll(session, workers[3])
    assert 3 == session.workers


async def test_a_known_worker_takes_a_strangers_place(session: ConcurrentSession) -> None:
    known, *strangers = [Worker() for _ in range(4)]
    for worker in strangers:
        poll(session, worker)
    poll(session, known, is_known=True)
    assert [True, False, False] == [worker.was_displaced for worker in strangers]
    for request_id in "abc":
        deliver(session, request_id)
    assert [[], ["a"], ["b"], ["c"]] == [strangers[0].got, strangers[1].got, strangers[2].got, known.got]


async def test_known_workers_keep_their_places(session: ConcurrentSession) -> None:
    for _ in range(3):
        poll(session, Worker(), is_known=True)
    with pytest.raises(TooManyWaiting):
        poll(session, Worker(), is_known=True)


@BOTH
async def test_a_late_answer_is_told_apart_from_an_unknown_one(session: ConcurrentSession, act: Act) -> None:
    """AWS answers 410 once, and 400 to whatever comes again."""
    poll(session, Worker())
    deliver(session, "a")
    session.expire("a")
    assert (1, 1) == (session.workers, session.stuck)

    with pytest.raises(InvocationTimedOut):
        session.open_reply("a", act)
    assert (1, 0) == (session.workers, session.stuck)
    with pytest.raises(UnknownInvocation):
        session.open_reply("a", act)


@BOTH
async def test_an_answer_that_has_begun_is_not_begun_again(session: ConcurrentSession, act: Act) -> None:
    poll(session, Worker())
    deliver(session, "a")
    session.open_reply("a", Act.RESPONSE)
    with pytest.raises(UnknownInvocation):
        session.open_reply("a", act)


async def test_time_may_end_in_the_middle_of_an_answer(session: ConcurrentSession, told: Transcript) -> None:
    poll(session, Worker())
    deliver(session, "a")
    session.open_reply("a", Act.RESPONSE)
    session.expire("a")
    session.cut("a")
    session.answer("a")

    assert (1, 0) == (session.workers, session.stuck)
    assert ["ready", "a well"] == told


async def test_a_cut_answer_fails_its_invocation_alone(session: ConcurrentSession, told: Transcript) -> None:
    for request_id in "ab":
        poll(session, Worker())
        deliver(session, request_id)
        session.open_reply(request_id, Act.RESPONSE)
    session.cut("a")
    session.cut("a")
    session.cut("never")
    session.refuse_mode("b")

    assert ["a Runtime.TruncatedResponse", "b Runtime.InvalidResponseModeHeader"] == told[2:]


async def test_a_worker_that_gave_an_invocation_up_is_not_counted_twice(session: ConcurrentSession) -> None:
    """It asks again without an answer: there are not more workers than places."""
    for request_id in "abc":
        poll(session, Worker())
        deliver(session, request_id)
        session.expire(request_id)
    assert 3 == session.stuck
    poll(session, Worker())

    assert (3, 2) == (session.workers, session.stuck)


def test_init_errors_come_before_the_first_invocation(session: ConcurrentSession, told: Transcript) -> None:
    """Each worker reports one; the first counts."""
    session.restore()
    session.fail_init(Failure("X", b""))
    for act in (session.restore, lambda: session.fail_init(Failure("Y", b"")), lambda: poll(session, Worker())):
        with pytest.raises(InvalidTransition):
            act()
    assert ["failed X"] == told


def test_after_the_first_request_there_is_no_init_error(session: ConcurrentSession) -> None:
    poll(session, Worker())
    with pytest.raises(InvalidTransition):
        session.fail_init(Failure("X", b""))


async def test_the_count_of_workers_holds_whatever_they_do() -> None:
    """A random life: three workers that ask, answer, are late, and lose connections."""
    chance = random.Random(20_261_130)
    session = ConcurrentSession(Transcript(), 3)
    workers = [Worker() for _ in range(3)]
    state: list[str] = ["away"] * 3
    count = 0
    for _ in range(5000):
        index = chance.randrange(3)
        worker, has = workers[index], state[index]
        if has == "away":
            poll(session, worker)
            state[index] = "waits"
        elif has == "waits":
            if chance.random() < 0.2:
                session.forget(worker.take)
                state[index] = "away"
            else:
                count += 1
                deliver(session, str(count))
                taker = next(number for number in range(3) if workers[number].got[-1:] == [str(count)])
                state[taker] = "serves"
        elif has == "serves":
            if chance.random() < 0.2:
                session.expire(worker.got[-1])
            try:
                session.open_reply(worker.got[-1], Act.RESPONSE)
                session.answer(worker.got[-1])
            except InvocationTimedOut:
                pass
            state[index] = "away"
        assert session.workers <= 3
        assert session.is_ready == ("waits" in state)
        assert 0 == session.stuck
