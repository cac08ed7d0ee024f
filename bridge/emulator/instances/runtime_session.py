"""What one runtime may do and when: the Runtime API without HTTP.

Requests of the runtime come in as calls, an InvalidTransition or UnknownInvocation goes out for those out of turn. The
instance delivers invocations and is told, through its Observer, what became of them. Nothing here knows sockets,
processes or time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.emulator.instances import failures
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.lifecycle import Act, InvalidTransition, RuntimePhase, advance
from bridge.rpc.value import FrozenValue


class Delivery(FrozenValue, frozen=True):
    """An invocation as it is handed to the runtime."""

    invocation: Invocation
    deadline_ms: int
    """Wall-clock milliseconds since 1970, as AWS counts."""


class RuntimeObserver(Protocol):
    """The instance, as its runtime's session sees it."""

    def runtime_ready(self) -> None:
        """Take note that the runtime asks for an invocation."""

    def runtime_failed(self, failure: Failure) -> None:
        """Take note that the runtime reported that it cannot start."""

    def runtime_answered(self, request_id: str, failure: Failure | None) -> None:
        """Take note that this invocation's reply is whole, or that it failed."""


class UnknownInvocation(Exception):
    """A reply to an invocation that is not the current one."""


Poller = Callable[[Delivery], None]


class Session(Protocol):
    """A runtime's conversation: of one that serves one invocation at a time, or many (ConcurrentSession)."""

    @property
    def is_ready(self) -> bool:
        """Whether the runtime waits for an invocation."""

    @property
    def workers(self) -> int:
        """How many invocations the runtime can serve at once, as far as it has shown."""

    @property
    def stuck(self) -> int:
        """How many of its workers are busy with an invocation whose time is over."""

    def restore(self) -> None:
        """Raise InvalidTransition unless the runtime is starting."""

    def fail_init(self, failure: Failure) -> None:
        """Take the runtime's report that it cannot start. Raises InvalidTransition."""

    def poll(self, poller: Poller, *, is_known: bool = False, displaced: Callable[[], None] | None = None) -> None:
        """Let the runtime ask for an invocation."""

    def forget(self, poller: Poller) -> None:
        """Forget the connection that asked."""

    def deliver(self, delivery: Delivery, reply: Reply) -> None:
        """Hand an invocation to the runtime."""

    def expire(self, request_id: str) -> None:
        """Take note that the invocation's time is over."""

    def open_reply(self, request_id: str, act: Act) -> Reply:
        """Begin the runtime's answer."""

    def answer(self, request_id: str, failure: Failure | None = None) -> None:
        """End the answer."""

    def refuse_mode(self, request_id: str) -> None:
        """Refuse a response mode that does not exist."""

    def cut(self, request_id: str) -> None:
        """End an answer whose connection ended in the middle."""


class RuntimeSession:
    """The conversation of a runtime that serves one invocation at a time, in the order of a normal life."""

    workers = 1
    stuck = 0  # such a runtime is killed when an invocation's time is over

    def __init__(self, observer: RuntimeObserver) -> None:
        self.phase = RuntimePhase.STARTED
        self._observer = observer
        self._delivery: Delivery | None = None
        self._reply: Reply | None = None
        self._poller: Poller | None = None
        """Waits for an invocation, on a connection that is open."""
        self._displaced: Callable[[], None] | None = None
        """Tells the poller that another has its place."""
        self._is_known = False
        """Whether the last to ask had brought a reply before: strangers cannot, for they know no request id."""
        self._taker: Poller | None = None
        """Has got the invocation that is running, on a connection that is open."""

    @property
    def is_ready(self) -> bool:
        return self.phase is RuntimePhase.READY

    def restore(self) -> None:
        self._advance(Act.RESTORE_NEXT)

    def fail_init(self, failure: Failure) -> None:
        self._advance(Act.INIT_ERROR)
        self._observer.runtime_failed(failure)

    def poll(
        self,
        poller: Poller,
        *,
        is_known: bool = False,
        displaced: Callable[[], None] | None = None,
    ) -> None:
        """Let the runtime ask for an invocation. `poller` gets it, now or later.

        A runtime asks once at a time, so of two connections one is a stranger's. One that has brought a reply
        (`is_known`) is the runtime's and displaces another; else the first keeps its place, and the second gets
        InvalidTransition. The invocation that is running is handed out again, unless it is with a connection that is
        known.
        """
        before = self.phase
        if before in (RuntimePhase.READY, RuntimePhase.RUNNING) and self._is_held_against(poller, is_known):
            raise InvalidTransition(before, Act.NEXT)
        self._advance(Act.NEXT)
        self._is_known = is_known
        if self.phase is RuntimePhase.RUNNING:
            self._hand_out(poller)
            return
        if self._poller not in (None, poller) and self._displaced is not None:
            self._displaced()
        self._poller, self._displaced = poller, displaced
        if before is not RuntimePhase.READY:
            self._delivery = self._reply = self._taker = None
            self._observer.runtime_ready()

    def _is_held_against(self, poller: Poller, is_known: bool) -> bool:  # noqa: FBT001 - one caller
        """Whether another connection, which is open, has the place that this one asks for."""
        holder = self._poller if self.phase is RuntimePhase.READY else self._taker
        if holder is None or holder == poller or (is_known and not self._is_known):
            return False
        return self._is_known or self.phase is RuntimePhase.READY

    def _hand_out(self, poller: Poller) -> None:
        assert self._delivery is not None
        self._taker = poller
        poller(self._delivery)

    def forget(self, poller: Poller) -> None:
        """Forget the connection that asked. It is gone, and the runtime may ask again."""
        if self._poller == poller:
            self._poller = None
        if self._taker == poller:
            self._taker = None

    def deliver(self, delivery: Delivery, reply: Reply) -> None:
        """Hand an invocation to the runtime, or to its next request if it lost the connection."""
        self._advance(Act.DELIVER)
        self._delivery = delivery
        self._reply = reply
        poller, self._poller = self._poller, None
        if poller is not None:
            self._hand_out(poller)

    def open_reply(self, request_id: str, act: Act) -> Reply:
        """Begin the runtime's answer; `answer` or `refuse_mode` must follow."""
        if self._reply is None or not self._is_current(request_id):
            raise UnknownInvocation
        self._advance(act)
        return self._reply

    def expire(self, request_id: str) -> None:
        """Do nothing: the process is about to be killed."""

    def answer(self, request_id: str, failure: Failure | None = None) -> None:
        """End the answer. It is whole, or `failure` says what happened."""
        self._advance(Act.SENT)
        self._observer.runtime_answered(request_id, failure)

    def refuse_mode(self, request_id: str) -> None:
        """Refuse a response mode that does not exist."""
        self.answer(request_id, failures.invalid_response_mode(request_id))

    def cut(self, request_id: str) -> None:
        """End an answer whose connection ended in the middle. Nothing happens if it has been settled otherwise."""
        if self.phase is RuntimePhase.RESPONDING and self._is_current(request_id):
            self.answer(request_id, failures.truncated(request_id))

    def _is_current(self, request_id: str) -> bool:
        return self._delivery is not None and self._delivery.invocation.request_id == request_id

    def _advance(self, act: Act) -> None:
        self.phase = advance(self.phase, act)
