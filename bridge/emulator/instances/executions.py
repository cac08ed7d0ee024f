"""Durable executions of one function, by name: an equal invocation gets the outcome of the one before.

AWS keeps executions for days. Here they are kept while there is room: the oldest that have ended are forgotten first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

from bridge.emulator.api import refusals
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation
from bridge.rpc.limits import MIB
from bridge.rpc.value import FrozenValue

MOST_EXECUTIONS = 1000
MOST_BYTES = 64 * MIB
"""Of payloads and results."""


class Outcome(FrozenValue, frozen=True):
    """How an invocation ended."""

    body: bytes
    """The function's result, or what is told of its failure."""
    content_type: str
    failure: Failure | None
    log_tail: bytes


class Execution:
    """One execution, under way or ended."""

    __slots__ = ("_payload", "_tenant", "id", "outcome")

    def __init__(self, invocation: Invocation, outcome: asyncio.Task[Outcome]) -> None:
        self.id = str(uuid4())
        self.outcome = outcome
        self._payload = invocation.payload
        self._tenant = invocation.tenant

    def is_of(self, invocation: Invocation) -> bool:
        """Whether this invocation is equal to the first one."""
        return (invocation.payload, invocation.tenant) == (self._payload, self._tenant)

    @property
    def size(self) -> int:
        """Bytes that it keeps."""
        ended = self.outcome.done() and not self.outcome.cancelled() and self.outcome.exception() is None
        return len(self._payload) + (len(self.outcome.result().body) if ended else 0)


class Executions:
    """Belongs to the running loop."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, Execution] = OrderedDict()

    def find(self, name: str, invocation: Invocation) -> Execution | None:
        """Return the execution of this name, if there is one. Raises AlreadyStarted if it is of another invocation."""
        found = self._by_name.get(name)
        if found is not None and not found.is_of(invocation):
            raise refusals.ExecutionExists(name)
        return found

    def begin(self, name: str, invocation: Invocation, run: Coroutine[Any, Any, Outcome]) -> Execution:
        """Run the invocation under this name, which must be free."""
        task = asyncio.get_running_loop().create_task(run)
        execution = self._by_name[name] = Execution(invocation, task)
        task.add_done_callback(lambda _task: self._make_room())
        self._make_room()
        return execution

    def _make_room(self) -> None:
        count, size = len(self._by_name), sum(each.size for each in self._by_name.values())
        for name, execution in list(self._by_name.items()):
            if count <= MOST_EXECUTIONS and size <= MOST_BYTES:
                return
            if execution.outcome.done():
                count, size = count - 1, size - execution.size
                del self._by_name[name]
