"""A runtime's conversation with its instance, without HTTP."""

from __future__ import annotations

import pytest

from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.lifecycle import Act, InvalidTransition, RuntimePhase
from bridge.emulator.instances.runtime_session import Delivery, RuntimeSession, UnknownInvocation

DELIVERY = Delivery(Invocation("id", b"{}", "arn", "trace"), 1)


class Transcript(list[str]):
    """An instance that writes down what it is told."""

    def runtime_ready(self) -> None:
        self.append("ready")

    def runtime_failed(self, failure: Failure) -> None:
        self.append(f"failed {failure.error_type}")

    def runtime_answered(self, request_id: str, failure: Failure | None) -> None:
        self.append(f"answered {failure.error_type if failure else 'well'}")


@pytest.fixture
def told() -> Transcript:
    return Transcript()


@pytest.fixture
def session(told: Transcript) -> RuntimeSession:
    return RuntimeSession(told)


def running(session: RuntimeSession) -> list[Delivery]:
    """Bring a session to its first invocation."""
    taken: list[Delivery] = []
    session.poll(taken.append)
    session.deliver(DELIVERY, Reply())
    return taken


async def test_an_invocation_goes_to_who_asked(session: RuntimeSession, told: Transcript) -> None:
    taken = running(session)
    session.open_reply("id", Act.RESPONSE)
    session.answer("id")

    assert taken == [DELIVERY]
    assert told == ["ready", "answered well"]


async def test_a_connection_that_is_gone_gets_nothing(session: RuntimeSession) -> None:
    """The runtime asks again, and gets the invocation then; being ready twice is being ready once."""
    lost: list[Delivery] = []
    taken: list[Delivery] = []
    poller = lost.append
    session.poll(poller)
    session.forget(poller)
    session.deliver(DELIVERY, Reply())
    session.poll(taken.append)

    assert (lost, taken) == ([], [DELIVERY])
    assert RuntimePhase.RUNNING is session.phase


async def test_another_invocations_answer_is_refused(session: RuntimeSession) -> None:
    running(session)

    with pytest.raises(UnknownInvocation):
        session.open_reply("other", Act.RESPONSE)
    assert RuntimePhase.RUNNING is session.phase


def test_before_an_invocation_there_is_nothing_to_answer(session: RuntimeSession) -> None:
    with pytest.raises(UnknownInvocation):
        session.open_reply("id", Act.RESPONSE)


async def test_a_cut_reply_fails_unless_it_was_whole(session: RuntimeSession, told: Transcript) -> None:
    running(session)
    session.open_reply("id", Act.RESPONSE)
    session.cut("id")
    session.cut("id")

    assert told == ["ready", "answered Runtime.TruncatedResponse"]


def test_init_errors_come_before_the_first_invocation(session: RuntimeSession, told: Transcript) -> None:
    session.restore()
    session.fail_init(Failure("X", b""))

    assert told == ["failed X"]
    with pytest.raises(InvalidTransition):
        session.poll(lambda _delivery: None)


async def test_a_cut_that_comes_late_is_not_the_next_invocations(session: RuntimeSession, told: Transcript) -> None:
    """The verdict on a lost connection waits a moment. The runtime may be answering the next one by then."""
    running(session)
    session.open_reply("id", Act.RESPONSE)
    session.answer("id")
    session.poll(lambda _delivery: None)
    session.deliver(Delivery(Invocation("next", b"{}", "arn", "trace"), 1), Reply())
    session.open_reply("next", Act.RESPONSE)
    session.cut("id")

    assert RuntimePhase.RESPONDING is session.phase
    assert told == ["ready", "answered well", "ready"]
