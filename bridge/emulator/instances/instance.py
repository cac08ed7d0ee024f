"""One instance of a function: a process, its Runtime API, and the limits on its time and memory.

It takes as many invocations at once as `instance_concurrency` says; each ends its Reply, whatever the process does. The
owner learns when an instance takes no more, and when nothing of it is left. A process is killed, never asked: AWS does
the same with functions that have no extensions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import debugging, failures
from bridge.emulator.instances.concurrent_session import ConcurrentSession
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.invocations_in_flight import InvocationsInFlight
from bridge.emulator.instances.logs import LogTail
from bridge.emulator.instances.memory_watch import MemoryWatch
from bridge.emulator.instances.output import InstanceOutput
from bridge.emulator.instances.process import FunctionProcess
from bridge.emulator.instances.process_start import CannotStart, ProcessStart
from bridge.emulator.instances.runtime_session import Delivery, RuntimeSession, Session
from bridge.emulator.instances.shared_state import SharedEmulatorState
from bridge.emulator.instances.time_limit import TimeLimit
from bridge.emulator.instances.worker_queue import WorkerQueue
from bridge.rpc.limits import MIB

FINAL_FLUSH_SECONDS = 1.0
"""Seconds that what a process had sent before it ended may take to be read: longer only if somebody else holds its
connection.
"""
SETTLING_SECONDS = 5.0
"""Seconds after the first of many workers in which the others may still be on their way. Then only those count that
have been seen.
"""
INIT_ERROR_GRACE = 1.0
"""Seconds that a process may take to end by itself after it reported an init error."""


class InstanceOwner(Protocol):
    """Hears of the end of an instance. A Function is one."""

    def instance_ready(self, instance: Instance) -> None:
        """Take note that the instance may have a place."""

    def instance_ended(self, instance: Instance) -> None:
        """Take note that the instance takes no more invocations."""

    def instance_gone(self, instance: Instance) -> None:
        """Nothing of its process is left."""


class InstanceLost(Exception):
    """A warm instance ended before it took the invocation: another one may."""


class Instance:
    """Starts with its first invocation; ends by failure, by idleness or by its owner."""

    def __init__(
        self,
        config: FunctionConfig,
        facilities: SharedEmulatorState,
        owner: InstanceOwner,
        log: Callable[[str], None],
        *,
        tenant: str | None = None,
    ) -> None:
        self.tenant = tenant
        """Whose invocations it takes, if the function has tenants."""
        self._config = config
        self._shared_state = facilities
        self._owner = owner
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._debug = config.debug
        """With a debugger there are no limits of time: its user thinks."""
        self._concurrency = config.instance_concurrency
        self._session: Session = RuntimeSession(self) if self._is_single else ConcurrentSession(self, self._concurrency)
        self._memory = MemoryWatch(config.memory, is_busy=self._is_starting_or_serving, on_excess=self._out_of_memory)
        self._output = InstanceOutput(config, self._memory, log, shows_reports=facilities.shows_reports)
        self._process_start = ProcessStart(
            config, facilities, self._session, self._output, on_breakpoint=self._stopped_at_breakpoint
        )
        self._process: FunctionProcess | None = None
        self._life: asyncio.Task[None] | None = None
        """Waits for the end of the process."""
        self._started: float | None = None
        self._in_flight = InvocationsInFlight()
        """What the runtime has been given."""
        self._claims = 0
        """How many invocations `run` has taken, given to the runtime or not."""
        self._has_served = False
        self._ready_at: float | None = None
        """When the runtime first asked for an invocation."""
        self._is_retired = False
        self._end: Callable[[str], Failure] | None = None
        """How it ended: the failure of an invocation that had begun or that it was started for, by request id."""
        self._queue = WorkerQueue()
        self._limit = TimeLimit()
        """Ends the instance when init, idleness or, of a single invocation, that has taken too long."""

    # -- the owner's side

    @property
    def is_ready(self) -> bool:
        """Whether it would take an invocation at once."""
        return self._session.is_ready and self._end is None

    @property
    def takes_more(self) -> bool:
        return self._end is None and not self._is_retired

    @property
    def places(self) -> int:
        """How many more invocations it takes now. 0 or less: none."""
        if not self.takes_more:
            return 0
        is_settling = self._ready_at is None or self._loop.time() < self._ready_at + SETTLING_SECONDS
        workers = self._concurrency if is_settling else self._session.workers
        return workers - self._session.stuck - self._claims

    async def run(self, invocation: Invocation, reply: Reply) -> bytes:
        """See `reply` to its end. Return the tail of the log if wanted. Raises InstanceLost with `reply` untouched."""
        self._claims += 1
        try:
            return await self._run(invocation, reply)
        finally:
            self._claims -= 1
            if self.is_ready and not self._in_flight.is_busy:
                self._rest()

    async def _run(self, invocation: Invocation, reply: Reply) -> bytes:
        is_cold = self._started is None
        if is_cold:
            await self._start()
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._queue.wait(self._has_worker_or_end)
        except TimeoutError:
            failure = failures.timed_out(invocation.request_id, self._config.timeout)
            tail = self._output.begin(invocation.request_id)
            self._output.end(invocation.request_id)
            reply.fail(failure)
            return self._report(invocation, tail, failure, self._config.timeout)
        if self._end is None:
            return await self._serve(invocation, reply)
        if self._ready_at is not None and not is_cold:
            raise InstanceLost
        return self._report_failed_init(invocation, reply, self._end(invocation.request_id))

    @property
    def _longest_wait(self) -> float | None:
        """Seconds that an invocation waits for a worker. A single runtime that does not come back is killed."""
        if self._is_single or self._debug is not None:
            return None
        return self._shared_state.init_timeout + self._config.timeout

    def _has_worker_or_end(self) -> bool:
        return self._session.is_ready or self._end is not None

    @property
    def _is_single(self) -> bool:
        return self._concurrency == 1

    def retire(self) -> None:
        """Take no more invocations: end now, or when those in flight (or the first, for which it starts) are done."""
        self._is_retired = True
        if (self.is_ready or self._session.stuck or self._debug is not None) and not self._claims:
            self.kill()

    def kill(self) -> None:
        """End now. An invocation in flight fails."""
        self._finish(lambda request_id: failures.exited(request_id, "signal: killed"))
        if self._process is not None:
            self._process.kill()

    async def gone(self) -> None:
        """Return when nothing of its process is left."""
        if self._life is not None:
            await asyncio.wait([self._life])

    # -- from start to end

    async def start(self) -> None:
        """Start now, without an invocation, so that an editor can attach to the debugger before the first one."""
        if self._started is None:
            await self._start()

    async def _start(self) -> None:
        self._started = self._loop.time()
        try:
            self._process = process = await self._process_start.start()
        except CannotStart as error:
            reason = str(error)
            if self._debug is not None and not self._claims and self._end is None:
                self._log(f"{debugging.LINE_PREFIX}{reason}")  # no invocation can say it
            self._finish(lambda request_id: failures.not_started(request_id, reason))
            self._owner.instance_gone(self)
            return
        self._life = self._loop.create_task(self._live(process))
        if self._end is not None:
            process.kill()
            return
        self._memory.start(process)
        if self._debug is None:
            self._limit.set(self._shared_state.init_timeout, self._init_timed_out)
        elif await debugging.listens(self._debug.port, has_ended=self._life.done):
            self._log(self._process_start.debugger_line(self._debug))

    async def _live(self, process: FunctionProcess) -> None:
        try:
            exit_status = await process.run(self._shared_state.reaper)
            self._output.finish()
            if self._in_flight:
                # Its end and its last bytes come by different ways; the bytes were first.
                await self._process_start.read_final_bytes(seconds=FINAL_FLUSH_SECONDS)
            self._finish(lambda request_id: failures.exited(request_id, exit_status))
        finally:
            self.kill()  # if we failed ourselves; otherwise it has ended
            self._process_start.close()
            self._stop_timers()
            await process.tidy_up()
            self._owner.instance_gone(self)

    def _finish(self, end: Callable[[str], Failure]) -> None:
        if self._end is not None:
            return
        self._end = end
        self._stop_timers()
        self._in_flight.fail_all(end)
        self._queue.wake_all()
        self._owner.instance_ended(self)

    # -- an invocation

    async def _serve(self, invocation: Invocation, reply: Reply) -> bytes:
        request_id, started = invocation.request_id, self._loop.time()
        # AWS counts the deadline on the wall clock.
        timeout = self._config.timeout if self._debug is None else debugging.NO_LIMIT
        deadline_ms = int((time.time() + timeout) * 1000)  # noqa: TID251 - see above
        self._in_flight.add(request_id, reply)
        self._has_served = True
        tail = self._output.begin(request_id)
        timer = self._limit_call(request_id)
        self._memory.watch()
        self._session.deliver(Delivery(invocation, deadline_ms), reply)
        try:
            await reply.over()
        finally:
            self._in_flight.remove(request_id)
            self._output.end(request_id)
            if timer is not None:
                timer.cancel()
        return self._report(invocation, tail, reply.failure, self._loop.time() - started)

    def _limit_call(self, request_id: str) -> asyncio.TimerHandle | None:
        if self._debug is not None:
            return None
        if self._is_single:
            self._limit.set(self._config.timeout, self._timed_out)
            return None
        self._limit.stop()  # idle no more
        return self._loop.call_later(self._config.timeout, self._expire, request_id)

    def _report(self, invocation: Invocation, tail: LogTail, failure: Failure | None, duration: float) -> bytes:
        if self._process is not None:
            self._process.drain()
        return self._output.report(invocation, tail, failure, duration)

    def _report_failed_init(self, invocation: Invocation, reply: Reply, failure: Failure) -> bytes:
        assert self._started is not None
        duration = self._loop.time() - self._started
        tail = self._output.begin_failed(invocation.request_id, duration, failure)
        reply.fail(failure)
        return self._report(invocation, tail, failure, duration)

    # -- what the runtime does (runtime_session.RuntimeObserver)

    def runtime_ready(self) -> None:
        if self._is_single or self._ready_at is None:
            self._limit.stop()
        if self._end is not None:
            return
        if self._ready_at is None and self._started is not None:
            self._ready_at = self._loop.time()
            self._output.init_duration = self._ready_at - self._started
        if not self._in_flight.is_busy:
            self._rest()
        self._queue.wake_one()
        self._owner.instance_ready(self)

    def _rest(self) -> None:
        """Wait for the next invocation, with a runtime that is ready; or end, if there shall be none."""
        if self._is_retired and self._has_served:
            if not self._session.stuck:
                self.kill()
        elif self._debug is None and (self._is_single or not self._claims):
            self._limit.set(self._shared_state.idle_timeout, self.kill)

    def runtime_failed(self, failure: Failure) -> None:
        self._finish(lambda _request_id: failure)
        if self._process is not None:
            self._limit.set(INIT_ERROR_GRACE, self._process.kill)

    def runtime_answered(self, request_id: str, failure: Failure | None) -> None:
        self._in_flight.finish(request_id, failure)

    # -- what the process does

    def _init_timed_out(self) -> None:
        seconds = self._shared_state.init_timeout
        self._finish(lambda request_id: failures.timed_out(request_id, seconds))
        self.kill()

    def _timed_out(self) -> None:
        """End the invocation at its time limit, and the process too. The reply may be over already: then the runtime
        did not come back for more in time.
        """
        self._finish(lambda request_id: failures.timed_out(request_id, self._config.timeout))
        self.kill()

    def _expire(self, request_id: str) -> None:
        """End one of many invocations at its time limit. As on AWS, the process and the code go on."""
        if not self._in_flight.has_time_limit(request_id):
            return
        self._session.expire(request_id)
        self._in_flight.finish(request_id, failures.timed_out(request_id, self._config.timeout))
        if self._session.stuck >= self._concurrency:
            self._step_down()

    def _stopped_at_breakpoint(self) -> None:
        """Lift the limits of time, and show what the process has written so far."""
        self._limit.stop()
        self._in_flight.lift_time_limits()
        if self._process is not None:
            self._process.drain()

    def _step_down(self) -> None:
        """Make room for another instance, because all workers are stuck. They may go on for a while."""
        self._is_retired = True
        self._limit.set(self._shared_state.idle_timeout, self.kill)
        self._owner.instance_ended(self)

    def _is_starting_or_serving(self) -> bool:
        return bool(self._in_flight) or self._ready_at is None

    def _out_of_memory(self, used: int) -> None:
        self._log(f"out of memory: {used // MIB} MB used, {self._config.memory // MIB} MB allowed; killed")
        if self._process is not None:
            self._process.kill()

    def _stop_timers(self) -> None:
        self._limit.stop()
        self._memory.stop()
