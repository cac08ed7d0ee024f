"""A target that is asked for its own descriptors, once.

Asking may start a function. So it happens on the first describe that nothing else answers. The answer is kept, and a
failure is remembered for a while. Clients that ask meanwhile share one conversation. It doesn't know how the messages
travel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING

from bridge.rpc.errors import FunctionNotFound, RpcError
from bridge.rpc.status import StatusCode
from bridge.services.errors import BadDescriptors, NotDescribed

if TYPE_CHECKING:
    from bridge.services.descriptors import Descriptors

Ask = Callable[[list[bytes]], Awaitable[list[bytes]]]
"""Sends serialized requests of grpc.reflection.v1, returns the serialized responses. Raises RpcError."""

FAILURE_MEMORY = 30.0
"""Seconds after a failure in which the target is not asked again."""
TIMEOUT = 30.0
"""Seconds for the whole conversation, a cold start included."""


def first_implemented(*asks: Ask) -> Ask:
    """Asks in the first way that the target implements: v1 and v1alpha differ in their paths, not in their messages."""

    async def ask(requests: list[bytes]) -> list[bytes]:
        for way in asks[:-1]:
            try:
                return await way(requests)
            except RpcError as error:
                if error.status.code is not StatusCode.UNIMPLEMENTED:
                    raise
        return await asks[-1](requests)

    return ask


class ReflectedTarget:
    """What a target says of itself."""

    def __init__(self, ask: Ask, *, name: str, now: Callable[[], float]) -> None:
        """`name` stands for the target in messages; `now` reads the monotonic clock (seconds)."""
        self.name = name
        self.known: Descriptors | None = None
        """None until the target has answered."""
        self._ask = ask
        self._now = now
        self._failure: NotDescribed | None = None
        self._retry_at = 0.0
        self._conversation: asyncio.Task[Descriptors | NotDescribed] | None = None

    async def describe(self, service: str) -> Descriptors:
        """All that the target describes; `service` is what it is asked for first. Raises NotDescribed."""
        if self.known is not None:
            return self.known
        if self._failure is not None and self._now() < self._retry_at:
            raise _copy(self._failure)
        if self._conversation is None:
            self._conversation = asyncio.get_running_loop().create_task(self._converse(service))
        conversation = self._conversation
        # Not awaited itself: a client that goes away must not take the others' answer with it.
        await asyncio.wait((conversation,))
        if conversation.cancelled():
            raise _replaced()
        outcome = conversation.result()
        if isinstance(outcome, NotDescribed):
            raise _copy(outcome)
        return outcome

    def forget(self) -> None:
        """Forget the answer, because the target has changed. Callers that wait for an answer get NotDescribed."""
        self.known = self._failure = None
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.cancel()

    def close(self) -> None:
        """Asks no more, and breaks off a conversation; who waits for it gets NotDescribed."""
        self._failure, self._retry_at = _replaced(), inf
        if self._conversation is not None:
            self._conversation.cancel()

    async def _converse(self, service: str) -> Descriptors | NotDescribed:
        from bridge.services.reflection_client import describe_target

        try:
            async with asyncio.timeout(TIMEOUT):
                self.known = await describe_target(self._ask, service, name=self.name)
        except (RpcError, BadDescriptors, TimeoutError) as error:
            self._failure = self._explain(error)
            self._retry_at = self._now() + FAILURE_MEMORY
            return self._failure
        finally:
            if self._conversation is asyncio.current_task():
                self._conversation = None
        return self.known

    def _explain(self, error: Exception) -> NotDescribed:
        if isinstance(error, TimeoutError):
            text = f"{self.name} did not describe itself within {TIMEOUT:g} s"
            return NotDescribed(text, code=StatusCode.DEADLINE_EXCEEDED)
        if isinstance(error, BadDescriptors):
            text = f"{self.name} described itself in a way that cannot be used: {error}"
            return NotDescribed(text, code=StatusCode.INTERNAL)
        assert isinstance(error, RpcError)
        code = error.status.code
        # A function that does not exist has this code, too, and then descriptors do not help.
        if code is StatusCode.UNIMPLEMENTED and not isinstance(error, FunctionNotFound):
            return NotDescribed(
                f"{self.name} does not answer reflection: `descriptors` in the configuration can speak for it"
            )
        return NotDescribed(f"{self.name} could not be asked: {error}", code=code)


def _replaced() -> NotDescribed:
    return NotDescribed("what was asked has changed; ask again", code=StatusCode.ABORTED)


def _copy(failure: NotDescribed) -> NotDescribed:
    """Copy the failure, because an exception that is raised again and again would collect tracebacks."""
    return NotDescribed(str(failure), code=failure.code)
