"""What one runtime may do and when: the Runtime API without HTTP.

Requests of the runtime come in as calls, an InvalidTransition or UnknownInvocation goes out for those out of turn. The instance
delivers invocations and is told, through its Observer, what became of them. Nothing here knows sockets, processes or time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.emulator import failures
from bridge.emulator.failures import Failure
from bridge.emulator.invocation import Invocation, Reply
from bridge.emulator.lifecycle import Act, Phase, advance
from bridge.rpc.value import Value


class Delivery(Value, frozen=True):
    """An invocation as it is handed to the runtime."""

    invocation: Invocation
    deadline_ms: int
    """Wall-clock milliseconds since 1970, as AWS counts."""


class Observer(Protocol):
    """The instance, as its runtime's session sees it."""

    def runtime_ready(self) -> None:
        """The runtime asks for an invocation."""

    def runtime_failed(self, failure: Failure) -> None:
        """The runtime reported that it cannot start."""

    def runtime_answered(self, failure: Failure | None) -> None:
        """The reply is whole, or the invocation failed."""


class UnknownInvocation(Exception):
    """A reply to an invocation that is not the current one."""


Poller = Callable[[Delivery], None]


class RuntimeSession:
    """One runtime's conversation. Its methods stand in the order of a normal life."""

    def __init__(self, observer: Observer) -> None:
        self.phase = Phase.STARTED
        self._observer = observer
        self._delivery: Delivery | None = None
        self._reply: Reply | None = None
        self._poller: Poller | None = None

    def restore(self) -> None:
        self._advance(Act.RESTORE_NEXT)

    def fail_init(self, failure: Failure) -> None:
        self._advance(Act.INIT_ERROR)
        self._observer.runtime_failed(failure)

    def poll(self, poller: Poller) -> None:
        """The runtime asks for an invocation: `poller` gets it, now or later."""
        before = self.phase
        self._advance(Act.NEXT)
        if self.phase is Phase.RUNNING:
            assert self._delivery is not None
            poller(self._delivery)
            return
        self._poller = poller
        if before is not Phase.READY:
            self._delivery = self._reply = None
            self._observer.runtime_ready()

    def forget(self, poller: Poller) -> None:
        """The connection that asked is gone; the runtime may ask again."""
        if self._poller == poller:
            self._poller = None

    def deliver(self, delivery: Delivery, reply: Reply) -> None:
        """Hand an invocation to the runtime, or to its next request if it lost the connection."""
        self._advance(Act.DELIVER)
        self._delivery = delivery
        self._reply = reply
        poller, self._poller = self._poller, None
        if poller is not None:
            poller(delivery)

    def open_reply(self, request_id: str, act: Act) -> Reply:
        """Begin the runtime's answer; `answer` or `refuse_mode` must follow."""
        if self._delivery is None or self._reply is None:
            raise UnknownInvocation
        if self._delivery.invocation.request_id != request_id:
            raise UnknownInvocation
        self._advance(act)
        return self._reply

    def answer(self, failure: Failure | None = None) -> None:
        """The answer is whole."""
        self._advance(Act.SENT)
        self._observer.runtime_answered(failure)

    def refuse_mode(self) -> None:
        """The runtime asked for a response mode that does not exist."""
        self.answer(failures.invalid_response_mode(self._current_id))

    def cut(self) -> None:
        """The connection ended in the middle of an answer; nothing happens if that answer has been settled otherwise."""
        if self.phase is Phase.RESPONDING:
            self.answer(failures.truncated(self._current_id))

    @property
    def _current_id(self) -> str:
        assert self._delivery is not None
        return self._delivery.invocation.request_id

    def _advance(self, act: Act) -> None:
        self.phase = advance(self.phase, act)
