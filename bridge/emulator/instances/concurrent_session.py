"""What a runtime that serves many invocations at once may do and when: the Runtime API of Lambda Managed Instances.

A runtime asks with as many requests as it has workers. Each worker gets one invocation, answers it, and asks again. As
in AWS's open-source emulator, an answer that comes after the invocation's time is refused, and so are requests beyond
the instance's concurrency. Nothing here knows sockets, processes or time.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.emulator.instances import failures
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Reply
from bridge.emulator.instances.lifecycle import Act, InvalidTransition, RuntimePhase
from bridge.emulator.instances.runtime_session import Delivery, Poller, RuntimeObserver, UnknownInvocation


class InvocationTimedOut(Exception):
    """An answer to an invocation whose time was over."""


class TooManyWaiting(Exception):
    """More requests wait for an invocation than the instance may serve at once."""


class _Waiting:
    """A request for an invocation."""

    __slots__ = ("displaced", "is_known", "poller")

    def __init__(self, poller: Poller, displaced: Callable[[], None] | None, *, is_known: bool) -> None:
        self.poller = poller
        self.displaced = displaced
        self.is_known = is_known


class _Running:
    """An invocation that a worker has got."""

    __slots__ = ("is_answering", "reply")

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.is_answering = False


class ConcurrentSession:
    """The conversation with all workers of one runtime. It counts workers by what they do, for nothing names them."""

    def __init__(self, observer: RuntimeObserver, concurrency: int) -> None:
        self._observer = observer
        self._concurrency = concurrency
        self._phase = RuntimePhase.STARTED
        self._waiting: list[_Waiting] = []
        self._running: dict[str, _Running] = {}
        self._overdue: dict[str, None] = {}
        """Invocations whose time is over and that a worker may still be busy with. The oldest are first."""
        self._returning = 0
        """Workers that have answered, and not asked again yet."""

    @property
    def is_ready(self) -> bool:
        return bool(self._waiting)

    @property
    def workers(self) -> int:
        """The workers that have been seen."""
        return len(self._waiting) + len(self._running) + self.stuck + self._returning

    @property
    def stuck(self) -> int:
        """The workers that are still busy with an invocation whose time is over."""
        return len(self._overdue)

    def restore(self) -> None:
        if self._phase is not RuntimePhase.STARTED:
            raise InvalidTransition(self._phase, Act.RESTORE_NEXT)

    def fail_init(self, failure: Failure) -> None:
        """Take the report of the first worker that cannot start; the others have the same fault."""
        if self._phase is not RuntimePhase.STARTED:
            raise InvalidTransition(self._phase, Act.INIT_ERROR)
        self._phase = RuntimePhase.INIT_ERROR
        self._observer.runtime_failed(failure)

    def poll(
        self,
        poller: Poller,
        *,
        is_known: bool = False,
        displaced: Callable[[], None] | None = None,
    ) -> None:
        """Give `poller` an invocation, now or later. Raises TooManyWaiting, InvalidTransition.

        A connection that has brought a reply (`is_known`) is the runtime's, and takes the place of one that has not.
        """
        if self._phase is RuntimePhase.INIT_ERROR:
            raise InvalidTransition(self._phase, Act.NEXT)
        if len(self._waiting) >= self._concurrency:
            self._displace_a_stranger(is_known=is_known)
        self._phase = RuntimePhase.READY
        self._waiting.append(_Waiting(poller, displaced, is_known=is_known))
        self._returning = max(0, self._returning - 1)
        self._forget_who_must_be_back()
        self._observer.runtime_ready()

    def _displace_a_stranger(self, *, is_known: bool) -> None:
        stranger = next((each for each in self._waiting if not each.is_known), None)
        if not is_known or stranger is None:
            raise TooManyWaiting
        self._waiting.remove(stranger)
        if stranger.displaced is not None:
            stranger.displaced()

    def _forget_who_must_be_back(self) -> None:
        """There are not more workers than `concurrency`: whoever asks without an answer has given up an invocation."""
        while self.workers > self._concurrency and self._overdue:
            del self._overdue[next(iter(self._overdue))]

    def forget(self, poller: Poller) -> None:
        """Forget a connection that asked and is gone."""
        self._waiting = [each for each in self._waiting if each.poller != poller]

    def deliver(self, delivery: Delivery, reply: Reply) -> None:
        """Hand an invocation to the request that has waited longest. There must be one (`is_ready`)."""
        self._running[delivery.invocation.request_id] = _Running(reply)
        self._waiting.pop(0).poller(delivery)

    def expire(self, request_id: str) -> None:
        """Take note that the invocation's time is over. Its worker does not know, and goes on."""
        if self._running.pop(request_id, None) is not None:
            self._overdue[request_id] = None

    def open_reply(self, request_id: str, act: Act) -> Reply:  # noqa: ARG002 - an error and a response have the same rules here
        """Begin a worker's answer; `answer` or `refuse_mode` must follow. Raises InvocationTimedOut,
        UnknownInvocation.
        """
        if request_id in self._overdue:
            del self._overdue[request_id]
            self._returning += 1
            raise InvocationTimedOut
        found = self._running.get(request_id)
        if found is None or found.is_answering:
            raise UnknownInvocation
        found.is_answering = True
        return found.reply

    def answer(self, request_id: str, failure: Failure | None = None) -> None:
        """End an answer, which is whole or has failed."""
        if self._running.pop(request_id, None) is None:
            self._overdue.pop(request_id, None)  # its time ended while it was being answered
        self._returning += 1
        self._observer.runtime_answered(request_id, failure)

    def refuse_mode(self, request_id: str) -> None:
        """Fail the invocation: the runtime asked for a response mode that does not exist."""
        self.answer(request_id, failures.invalid_response_mode(request_id))

    def cut(self, request_id: str) -> None:
        """Fail the invocation: the connection ended in the middle of its answer. One that was settled stays so."""
        found = self._running.get(request_id)
        if found is not None and found.is_answering:
            self.answer(request_id, failures.truncated(request_id))
