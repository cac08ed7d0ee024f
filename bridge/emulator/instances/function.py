"""One function: its instances, how many may be busy at once, and its queue of asynchronous invocations.

An invocation that has begun goes on to its end, whether or not somebody waits for it, as on AWS.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TypeVar

from bridge.config.schema import FunctionConfig
from bridge.emulator.api import refusals
from bridge.emulator.instances import failures
from bridge.emulator.instances.busy_times import BusyTimes
from bridge.emulator.instances.executions import Executions
from bridge.emulator.instances.instance import Instance, InstanceLost
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.quotas import FunctionQuota
from bridge.emulator.instances.shared_state import SharedEmulatorState

MAX_EVENTS = 64
"""Asynchronous invocations that wait, of up to 1 MiB each."""
_CLOSE_TIMEOUT = 2.0
"""Seconds for the killed to be gone."""

_EVENT_PAUSE = 0.1
"""Seconds until an event tries again. Room of the account and of a rate comes without notice."""

ENVIRONMENTS_OF_TENANTS = 2.5
"""Instances of a function with tenants, busy or idle, for each unit of its concurrency: AWS allows 2,500 for 1,000
(AWS Lambda, "Troubleshooting tenant isolation").
"""

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)


class Function:
    """One function: its instances, and the invocations that it runs, waits for or refuses."""

    def __init__(self, config: FunctionConfig, facilities: SharedEmulatorState, log: Callable[[str], None]) -> None:
        self.config = config
        self._shared_state = facilities
        self._log = log
        self._instances: set[Instance] = set()
        """All that have something left of them."""
        self._usable: list[Instance] = []
        """Those that take invocations, the last used at the end. Some are still on their way back from their last
        reply.
        """
        self._unclaimed: Counter[str | None] = Counter()
        """By tenant: invocations that have begun, and have no instance yet."""
        self._quota = FunctionQuota(facilities.account)
        self._reserved: int | None = None
        """The concurrency that the API has set; None: that of the configuration."""
        self._has_room = asyncio.Event()
        self._events: asyncio.Queue[Invocation] = asyncio.Queue(MAX_EVENTS)
        self._event_worker: asyncio.Task[None] | None = None
        self.executions = Executions()
        self.busy = BusyTimes()
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_closed = False
        self._start_for_debugger()

    def streamed_reply(self) -> Reply:
        """Return the place for a reply that is streamed to the caller."""
        return Reply(streamed_limit=self._shared_state.max_streamed_reply)

    def begin(self, invocation: Invocation, reply: Reply) -> asyncio.Task[bytes]:
        """Run an invocation; the task ends after the reply and returns the tail of the log. Raise Throttled."""
        now, tenant = asyncio.get_running_loop().time(), invocation.tenant
        has_place = self._has_place
        if has_place and not self._has_environment(tenant):
            raise refusals.TooManyEnvironments
        self._quota.begin(has_place=has_place, rate=self.config.rate, now=now)
        self._unclaimed[tenant] += 1
        self.busy.begin()
        return self._own(self._run(invocation, reply))

    def enqueue(self, invocation: Invocation) -> None:
        """Run an invocation some time, once; what it gives back is dropped. Raise Throttled."""
        try:
            self._events.put_nowait(invocation)
        except asyncio.QueueFull:
            raise refusals.TooManyRequests("FunctionInvocationRateLimitExceeded") from None
        if self._event_worker is None:
            self._event_worker = asyncio.get_running_loop().create_task(self._work_off_events())

    @property
    def running(self) -> int:
        """Invocations in flight."""
        return self._quota.running

    @property
    def instances(self) -> int:
        """Processes that run for it."""
        return len(self._instances)

    @property
    def most_running(self) -> int:
        """How many invocations may run at a time."""
        return self.concurrency

    @property
    def concurrency(self) -> int:
        """How many invocations may run at a time."""
        most = self.config.concurrency if self._reserved is None else self._reserved
        return most if self.config.debug is None else min(1, most)  # a debugger has one port

    def reserve(self, concurrency: int | None) -> None:
        """Change how many invocations may run at a time. Those that run go on. None: as the configuration says."""
        self._reserved = concurrency
        self._has_room.set()

    def note(self, line: str) -> None:
        """Write a line of our own where the function's lines go."""
        self._log(line)

    def renew(self, config: FunctionConfig) -> None:
        """Let the next invocations run in fresh processes; those in flight end where they are."""
        self.config = config
        self._has_room.set()
        self._usable.clear()
        for instance in list(self._instances):
            instance.retire()
        self._start_for_debugger()

    def _start_for_debugger(self) -> None:
        """Start a function that is debugged before its first invocation, so that an editor can attach."""
        if self.config.debug is not None and not self._is_closed:
            self._own(self._claim(None).start())

    async def drain(self) -> None:
        """Let what is in flight end, then close."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.close()

    async def close(self) -> None:
        """Kill every process; what is in flight fails."""
        self._is_closed = True
        if self._event_worker is not None:
            self._event_worker.cancel()
        instances = list(self._instances)
        for instance in instances:
            instance.kill()
        leftover = [task for task in (*self._tasks, self._event_worker) if task is not None]
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*leftover, return_exceptions=True)
                await asyncio.gather(*(instance.gone() for instance in instances))
        except TimeoutError:
            _logger.warning("%s: a killed process does not end", self.config.name)

    # -- invocations

    async def _run(self, invocation: Invocation, reply: Reply) -> bytes:
        try:
            return await self._run_on_an_instance(invocation, reply)
        except Exception:
            _logger.exception("the local Lambda failed to run %s", self.config.name)
            return b""
        finally:
            reply.fail(failures.emulator_failed(invocation.request_id))  # unless it is over
            self._quota.end()
            self.busy.end()
            self._has_room.set()

    async def _run_on_an_instance(self, invocation: Invocation, reply: Reply) -> bytes:
        self._unclaimed[invocation.tenant] -= 1
        # Every turn but the last uses up a warm instance, so that this ends.
        while not self._is_closed:
            instance = self._claim(invocation.tenant)
            try:
                return await instance.run(invocation, reply)
            except InstanceLost:
                continue
            finally:
                self._release(instance)
        return b""

    @property
    def _has_place(self) -> bool:
        most, each = self.concurrency, self.config.instance_concurrency
        if self._quota.running >= most * each:
            return False
        if self.config.tenants:
            return True  # how many instances there may be is another limit
        return self._places_of(None) + max(0, most - len(self._usable)) * each > self._unclaimed[None]

    def _has_environment(self, tenant: str | None) -> bool:
        """Whether one more invocation of this tenant finds an instance, or may start one. Idle instances of other
        tenants count, as on AWS.
        """
        if not self.config.tenants:
            return True
        unclaimed = self._unclaimed + Counter((tenant,))
        missing = sum(
            math.ceil(max(0, count - self._places_of(each)) / self.config.instance_concurrency)
            for each, count in unclaimed.items()
        )
        return not missing or len(self._usable) + missing <= int(self.concurrency * ENVIRONMENTS_OF_TENANTS)

    def _places_of(self, tenant: str | None) -> int:
        return sum(max(0, instance.places) for instance in self._usable if instance.tenant == tenant)

    def _claim(self, tenant: str | None) -> Instance:
        """Return an instance with a place, the last used first: those that are not needed shall end."""
        usable = [each for each in reversed(self._usable) if each.tenant == tenant and each.places > 0]
        ready = next((instance for instance in usable if instance.is_ready), None)
        if ready is not None or usable:
            return ready or usable[0]
        instance = Instance(self.config, self._shared_state, self, self._log, tenant=tenant)
        self._instances.add(instance)
        self._usable.append(instance)
        return instance

    def _release(self, instance: Instance) -> None:
        if instance in self._usable:
            self._usable.remove(instance)
            self._usable.append(instance)

    def instance_ready(self, instance: Instance) -> None:  # noqa: ARG002 - whichever it is
        self._has_room.set()

    def instance_ended(self, instance: Instance) -> None:
        if instance in self._usable:
            self._usable.remove(instance)

    def instance_gone(self, instance: Instance) -> None:
        self._instances.discard(instance)

    # -- asynchronous invocations

    async def _work_off_events(self) -> None:
        while True:
            invocation = await self._events.get()
            reply = Reply()
            while not self._begins(invocation, reply):
                self._has_room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_EVENT_PAUSE):
                        await self._has_room.wait()
            self._own(self._drop(reply))

    def _begins(self, invocation: Invocation, reply: Reply) -> bool:
        try:
            self.begin(invocation, reply)
        except refusals.TooManyRequests:
            return False
        return True

    async def _drop(self, reply: Reply) -> None:
        await reply.whole()
        if reply.failure is not None:
            self._log(f"asynchronous invocation failed: {reply.failure.error_type}")

    def _own(self, coroutine: Coroutine[None, None, Result]) -> asyncio.Task[Result]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
