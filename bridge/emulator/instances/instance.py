"""One instance of a function: a process, its Runtime API, and the limits on its time and memory.

It takes as many invocations at once as `instance_concurrency` says; each ends its Reply, whatever the process does. The
owner learns when an instance takes no more, and when nothing of it is left. A process is killed, never asked: AWS does
the same with functions that have no extensions.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

from bridge.aws.invoke import MAX_STREAMED_REPLY
from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import environment, failures, logs
from bridge.emulator.instances.concurrent_session import ConcurrentSession
from bridge.emulator.instances.environment import Interpreter, Interpreters
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.log_socket import LogSocket
from bridge.emulator.instances.logs import InvocationReport, LineSplitter, LogTail
from bridge.emulator.instances.process import FunctionProcess
from bridge.emulator.instances.quotas import AccountQuota
from bridge.emulator.instances.reaper import Reaper
from bridge.emulator.instances.runtime_api import MAX_RUNTIME_CONNECTIONS, RuntimeApi
from bridge.emulator.instances.runtime_session import Delivery, RuntimeSession, Session
from bridge.rpc.limits import MIB
from bridge.server.hosts import Hosts

MEMORY_CHECK_SECONDS = 0.1
"""Seconds between two looks at the memory of a busy instance."""
LAST_WORDS = 1.0
"""Seconds that what a process had sent before it ended may take to be read: longer only if somebody else holds its
connection.
"""
SETTLING_SECONDS = 5.0
"""Seconds after the first of many workers in which the others may still be on their way. Then only those count that
have been seen.
"""
INIT_ERROR_GRACE = 1.0
"""Seconds that a process may take to end by itself after it reported an init error."""


@dataclass(frozen=True, slots=True)
class SharedEmulatorState:
    """What all instances of a local Lambda share."""

    reaper: Reaper
    interpreters: Interpreters
    init_timeout: float
    """Seconds from the start of a process to its first request for an invocation."""
    idle_timeout: float
    """Seconds without an invocation after which an instance ends."""
    hosts: Hosts | None = None
    """The names under which the Runtime APIs answer; None: those that nobody else can have."""
    max_streamed_reply: int = MAX_STREAMED_REPLY
    """Bytes."""
    account: AccountQuota = field(default_factory=AccountQuota)


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


class _InFlight:
    """An invocation that the runtime has got."""

    __slots__ = ("reply", "tail")

    def __init__(self, reply: Reply, tail: LogTail) -> None:
        self.reply = reply
        self.tail = tail


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
        self._concurrency = config.instance_concurrency
        self._session: Session = RuntimeSession(self) if self._is_single else ConcurrentSession(self, self._concurrency)
        self._api = RuntimeApi(self._session, facilities.hosts, concurrency=self._concurrency)
        self._log_socket = LogSocket(self._write_line, max_streams=MAX_RUNTIME_CONNECTIONS + 2 * self._concurrency)
        self._process: FunctionProcess | None = None
        self._life: asyncio.Task[None] | None = None
        """Waits for the end of the process."""
        self._started: float | None = None
        self._init_duration: float | None = None
        """Seconds; until an invocation has reported it."""
        self._lines = LineSplitter()
        self._tail = LogTail()
        self._memory_used = 0
        self._calls: dict[str, _InFlight] = {}
        """What the runtime has been given, by request id."""
        self._claims = 0
        """How many invocations `run` has taken, given to the runtime or not."""
        self._has_served = False
        self._ready_at: float | None = None
        """When the runtime first asked for an invocation."""
        self._is_retired = False
        self._end: Callable[[str], Failure] | None = None
        """How it ended: the failure of an invocation that had begun or that it was started for, by request id."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        """Invocations that wait until the runtime asks for one, or the instance ends."""
        self._limit: asyncio.TimerHandle | None = None
        """Ends the instance when init, idleness or, of a single invocation, that has taken too long."""
        self._memory_timer: asyncio.TimerHandle | None = None

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
            if self.is_ready and not self._is_busy:
                self._rest()

    async def _run(self, invocation: Invocation, reply: Reply) -> bytes:
        is_cold = self._started is None
        if is_cold:
            await self._start()
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._wait_for_worker()
        except TimeoutError:
            failure = failures.timed_out(invocation.request_id, self._config.timeout)
            reply.fail(failure)
            return self._report(invocation, LogTail(), failure, self._config.timeout)
        if self._end is None:
            return await self._serve(invocation, reply)
        if self._ready_at is not None and not is_cold:
            raise InstanceLost
        return self._report_failed_init(invocation, reply, self._end(invocation.request_id))

    @property
    def _longest_wait(self) -> float | None:
        """Seconds that an invocation waits for a worker. A single runtime that does not come back is killed."""
        return None if self._is_single else self._shared_state.init_timeout + self._config.timeout

    async def _wait_for_worker(self) -> None:
        """Return when the runtime asks for an invocation, or the instance has ended."""
        add = self._waiters.append
        while self._end is None and not self._session.is_ready:
            waiter = self._loop.create_future()
            add(waiter)
            await waiter
            add = self._waiters.appendleft  # somebody else was faster

    @property
    def _is_single(self) -> bool:
        return self._concurrency == 1

    @property
    def _is_busy(self) -> bool:
        return any(not call.reply.is_over for call in self._calls.values())

    def retire(self) -> None:
        """Take no more invocations: end now, or when those in flight (or the first, for which it starts) are done."""
        self._is_retired = True
        if (self.is_ready or self._session.stuck) and not self._claims:
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

    async def _start(self) -> None:
        self._started = self._loop.time()
        try:
            self._process = process = await self._start_process()
        except OSError as error:
            self._api.close()
            self._log_socket.close()
            reason = _why_not_started(error, self._config)
            self._finish(lambda request_id: failures.not_started(request_id, reason))
            self._owner.instance_gone(self)
            return
        self._life = self._loop.create_task(self._live(process))
        if self._end is not None:
            process.kill()
            return
        self._limit_to(self._shared_state.init_timeout, self._init_timed_out)
        self._watch_memory()

    async def _start_process(self) -> FunctionProcess:
        config = self._config
        interpreter = Interpreter()
        if config.command is None:
            interpreter = await self._shared_state.interpreters.ask(config)
        runtime_api = await self._api.open()
        log_socket = None if self._is_single else await self._log_socket.open()
        day = time.strftime("%Y/%m/%d", time.gmtime())
        return await FunctionProcess.start(
            environment.command_of(config),
            folder=config.code,
            environment=environment.environment_of(
                config,
                interpreter,
                runtime_api=runtime_api,
                log_stream=f"{day}/[$LATEST]{uuid4().hex}",
                log_socket=log_socket,
            ),
            on_output=self._write,
        )

    async def _live(self, process: FunctionProcess) -> None:
        try:
            exit_status = await process.run(self._shared_state.reaper)
            for line in self._lines.finish():
                self._write_line(line)
            if self._calls:
                # Its end and its last bytes come by different ways; the bytes were first.
                await self._api.last_words(seconds=LAST_WORDS)
            self._finish(lambda request_id: failures.exited(request_id, exit_status))
        finally:
            self.kill()  # if we failed ourselves; otherwise it has ended
            self._api.close()
            self._log_socket.close()
            self._stop_timers()
            self._owner.instance_gone(self)

    def _finish(self, end: Callable[[str], Failure]) -> None:
        if self._end is not None:
            return
        self._end = end
        self._stop_timers()
        for request_id, call in self._calls.items():
            call.reply.fail(end(request_id))
        while self._waiters:
            self._wake_one()
        self._owner.instance_ended(self)

    # -- an invocation

    async def _serve(self, invocation: Invocation, reply: Reply) -> bytes:
        request_id, started = invocation.request_id, self._loop.time()
        # AWS counts the deadline on the wall clock.
        deadline_ms = int((time.time() + self._config.timeout) * 1000)  # noqa: TID251 - see above
        call = _InFlight(reply, self._tail if self._is_single else LogTail())
        self._calls[request_id] = call
        self._has_served = True
        call.tail.add_line(logs.start_line(request_id))
        timer = self._limit_call(request_id)
        self._watch_memory()
        self._session.deliver(Delivery(invocation, deadline_ms), reply)
        try:
            await reply.over()
        finally:
            del self._calls[request_id]
            if timer is not None:
                timer.cancel()
        return self._report(invocation, call.tail, reply.failure, self._loop.time() - started)

    def _limit_call(self, request_id: str) -> asyncio.TimerHandle | None:
        if self._is_single:
            self._limit_to(self._config.timeout, self._timed_out)
            return None
        self._stop_limit()  # idle no more
        return self._loop.call_later(self._config.timeout, self._expire, request_id)

    def _report(self, invocation: Invocation, tail: LogTail, failure: Failure | None, duration: float) -> bytes:
        if self._process is not None:
            self._process.drain()
        if failure is not None and failure.notice:
            self._log(failure.notice)
            tail.add_line(failure.notice)
        init_duration, self._init_duration = self._init_duration, None
        if not invocation.wants_log:
            tail.take()
            return b""
        self._look_at_memory()
        report = InvocationReport(
            request_id=invocation.request_id,
            duration=duration,
            memory_size=self._config.memory,
            memory_used=self._memory_used,
            init_duration=init_duration,
            outcome=_outcome(failure) if failure is not None and failure.notice else "",
        )
        tail.add_line(logs.end_line(invocation.request_id))
        tail.add_line(report.line)
        return tail.take()

    def _report_failed_init(self, invocation: Invocation, reply: Reply, failure: Failure) -> bytes:
        assert self._started is not None
        duration = self._loop.time() - self._started
        self._tail.add_line(logs.failed_init_line(duration, _outcome(failure)))
        self._tail.add_line(logs.start_line(invocation.request_id))
        reply.fail(failure)
        return self._report(invocation, self._tail, failure, duration)

    # -- what the runtime does (runtime_session.Observer)

    def runtime_ready(self) -> None:
        if self._is_single or self._ready_at is None:
            self._stop_limit()
        if self._end is not None:
            return
        if self._ready_at is None and self._started is not None:
            self._ready_at = self._loop.time()
            self._init_duration = self._ready_at - self._started
        if not self._is_busy:
            self._rest()
        if self._waiters:
            self._wake_one()
        self._owner.instance_ready(self)

    def _rest(self) -> None:
        """Wait for the next invocation, with a runtime that is ready; or end, if there shall be none."""
        if self._is_retired and self._has_served:
            if not self._session.stuck:
                self.kill()
        elif self._is_single or not self._claims:
            self._limit_to(self._shared_state.idle_timeout, self.kill)

    def _wake_one(self) -> None:
        waiter = self._waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)

    def runtime_failed(self, failure: Failure) -> None:
        self._finish(lambda _request_id: failure)
        if self._process is not None:
            self._limit_to(INIT_ERROR_GRACE, self._process.kill)

    def runtime_answered(self, request_id: str, failure: Failure | None) -> None:
        call = self._calls.get(request_id)
        if call is None:
            return
        if failure is None:
            call.reply.end()
        else:
            call.reply.fail(failure)

    # -- what the process does

    def _write(self, output: bytes) -> None:
        if self._is_single:
            self._tail.add(output)
        for line in self._lines.feed(output):
            self._write_line(line)

    def _write_line(self, line: str) -> None:
        self._log(line)
        if not self._is_single:
            for request_id in logs.request_ids_in(line):
                if (call := self._calls.get(request_id)) is not None:
                    call.tail.add_line(line)

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
        self._session.expire(request_id)
        self._calls[request_id].reply.fail(failures.timed_out(request_id, self._config.timeout))
        if self._session.stuck >= self._concurrency:
            self._step_down()

    def _step_down(self) -> None:
        """Make room for another instance, because all workers are stuck. They may go on for a while."""
        self._is_retired = True
        self._limit_to(self._shared_state.idle_timeout, self.kill)
        self._owner.instance_ended(self)

    def _check_memory(self) -> None:
        self._memory_timer = None
        used, limit = self._look_at_memory(), self._config.memory
        if self._process is None or used <= limit:
            if self._calls or self._ready_at is None:
                self._watch_memory()
            return
        self._log(f"out of memory: {used // MIB} MB used, {limit // MIB} MB allowed; killed")
        self._process.kill()

    def _watch_memory(self) -> None:
        if self._memory_timer is None:
            self._memory_timer = self._loop.call_later(MEMORY_CHECK_SECONDS, self._check_memory)

    def _look_at_memory(self) -> int:
        used = 0 if self._process is None else self._process.memory()
        self._memory_used = max(self._memory_used, used)
        return used

    def _limit_to(self, seconds: float, act: Callable[[], None]) -> None:
        self._stop_limit()
        self._limit = self._loop.call_later(seconds, act)

    def _stop_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()

    def _stop_timers(self) -> None:
        self._stop_limit()
        if self._memory_timer is not None:
            self._memory_timer.cancel()


def _why_not_started(error: OSError, config: FunctionConfig) -> str:
    # The error for a folder that is gone looks like the one for a program that is not there, and may name neither.
    folder_is_there = config.code.is_dir()
    at = f"fork/exec {error.filename or config.name}" if folder_is_there else f"chdir {config.code}"
    return f"{at}: {(error.strerror or 'failed').lower()}"


def _outcome(failure: Failure) -> str:
    if failure.error_type == failures.TIMED_OUT:
        return "Status: timeout"
    return f"Status: error\tError Type: {failure.error_type}"
