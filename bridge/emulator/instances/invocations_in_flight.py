"""The invocations that an instance's runtime has been given and not yet ended, with their replies."""

from __future__ import annotations

from collections.abc import Callable

from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Reply


class InvocationsInFlight:
    """Holds each reply by its request id, and knows which invocations have no time limit any more."""

    def __init__(self) -> None:
        self._replies: dict[str, Reply] = {}
        self._unlimited: set[str] = set()

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def is_busy(self) -> bool:
        """Whether any of them still waits for its reply."""
        return any(not reply.is_over for reply in self._replies.values())

    def add(self, request_id: str, reply: Reply) -> None:
        self._replies[request_id] = reply

    def remove(self, request_id: str) -> None:
        del self._replies[request_id]
        self._unlimited.discard(request_id)

    def finish(self, request_id: str, failure: Failure | None) -> None:
        """End the invocation's reply, with the failure if there is one. An unknown invocation is ignored."""
        reply = self._replies.get(request_id)
        if reply is None:
            return
        if failure is None:
            reply.end()
        else:
            reply.fail(failure)

    def fail_all(self, failure_of: Callable[[str], Failure]) -> None:
        """End every reply. `failure_of` makes the failure for a request id."""
        for request_id, reply in self._replies.items():
            reply.fail(failure_of(request_id))

    def has_time_limit(self, request_id: str) -> bool:
        return request_id not in self._unlimited

    def lift_time_limits(self) -> None:
        """Let the present invocations take as long as they need, because one has reached a breakpoint()."""
        self._unlimited |= self._replies.keys()
