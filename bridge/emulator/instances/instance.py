"""One instance of a function: a process, its Runtime API, and the limits on its time and memory.

Invocations come in one at a time; each ends its Reply, whatever the process does. The owner learns when an instance
takes no more, and when nothing of it is left. A process is killed, never asked: AWS does the same with functions that
have no extensions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from bridge.aws.invoke import MAX_STREAMED_REPLY
from bridge.config.schema import FunctionConfig
from bridge.emulator.instances import environment, failures, logs
from bridge.emulator.instances.environment import Interpreter, Interpreters
from bridge.emulator.instances.failures import Failure
from bridge.emulator.instances.invocation import Invocation, Reply
from bridge.emulator.instances.lifecycle import RuntimePhase
from bridge.emulator.instances.logs import InvocationReport, LineSplitter, LogTail
from bridge.emulator.instances.process import FunctionProcess
from bridge.emulator.instances.reaper import Reaper
from bridge.emulator.instances.runtime_api import RuntimeApi
from bridge.emulator.instances.runtime_session import Delivery, RuntimeSession
from bridge.rpc.limits import MIB
from bridge.server.hosts import Hosts

MEMORY_CHECK_SECONDS = 0.1
"""Seconds between two looks at the memory of a busy instance."""
LAST_WORDS = 1.0
"""Seconds that what a process had sent before it ended may take to be read: longer only if somebody else holds its
connection.
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


class InstanceOwner(Protocol):
    def instance_ended(self, instance: Instance) -> None:
        """Take note that the instance takes no more invocations."""

    def instance_gone(self, instance: Instance) -> None:
        """Nothing of its process is left."""


class InstanceLost(Exception):
    """A warm instance ended before it took the invocation: another one may."""


class Instance:
    """Starts with its first invocation; ends by failure, by idleness or by its owner."""

    def __init__(
        self, config: FunctionConfig, facilities: SharedEmulatorState, owner: InstanceOwner, log: Callable[[str], None]
    ) -> None:
        self._config = config
        self._shared_state = facilities
        self._owner = owner
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._session = RuntimeSession(self)
        self._api = RuntimeApi(self._session, facilities.hosts)
        self._process: FunctionProcess | None = None
        self._life: asyncio.Task[None] | None = None
        """Waits for the end of the process."""
        self._started: float | None = None
        self._init_duration: float | None = None
        """Seconds; until an invocation has reported it."""
        self._lines = LineSplitter()
        self._tail = LogTail()
        self._memory_used = 0
        self._request_id = ""
        self._reply: Reply | None = None
        self._is_retired = False
        self._is_claimed = False
        """Whether `run` is under way."""
        self._end: Callable[[str], Failure] | None = None
        """How it ended: the failure of an invocation that had begun or that it was started for, by request id."""
        self._changed = asyncio.Event()
        """Set while the runtime is ready or the instance ended: whoever waits for it may go on."""
        self._limit: asyncio.TimerHandle | None = None
        """Ends the instance when init, an invocation or idleness has taken too long."""
        self._memory_timer: asyncio.TimerHandle | None = None

    # -- the owner's side

    @property
    def is_ready(self) -> bool:
        """Whether it would take an invocation at once."""
        return self._session.phase is RuntimePhase.READY and self._end is None

    @property
    def takes_more(self) -> bool:
        return self._end is None and not self._is_retired

    async def run(self, invocation: Invocation, reply: Reply) -> bytes:
        """See `reply` to its end; return the tail of the log, if wanted. Raise InstanceLost with the reply
        untouched.
        """
        self._is_claimed = True
        try:
            return await self._run(invocation, reply)
        finally:
            self._is_claimed = False
            if self._is_retired and self.is_ready:
                self.kill()

    async def _run(self, invocation: Invocation, reply: Reply) -> bytes:
        is_cold = self._started is None
        if is_cold:
            await self._start()
        await self._changed.wait()
        if self._end is None:
            return await self._serve(invocation, reply)
        if not is_cold:
            raise InstanceLost
        return self._report_failed_init(invocation, reply, self._end(invocation.request_id))

    def retire(self) -> None:
        """Take no more invocations: end now, or when the one in flight (or the first, for which it starts) is done."""
        self._is_retired = True
        if self.is_ready and not self._is_claimed:
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
            reason = _why_not_started(error, self._config)
            self._finish(lambda request_id: failures.not_started(request_id, reason))
            self._owner.instance_gone(self)
            return
        self._life = self._loop.create_task(self._live(process))
        if self._end is not None:
            process.kill()
            return
        self._limit_to(self._shared_state.init_timeout, self._init_timed_out)
        self._weigh_later()

    async def _start_process(self) -> FunctionProcess:
        config = self._config
        interpreter = Interpreter()
        if config.command is None:
            interpreter = await self._shared_state.interpreters.ask(config)
        runtime_api = await self._api.open()
        day = time.strftime("%Y/%m/%d", time.gmtime())
        return await FunctionProcess.start(
            environment.command_of(config),
            folder=config.code,
            environment=environment.environment_of(
                config,
                interpreter,
                runtime_api=runtime_api,
                log_stream=f"{day}/[$LATEST]{uuid4().hex}",
            ),
            on_output=self._write,
        )

    async def _live(self, process: FunctionProcess) -> None:
        try:
            exit_status = await process.run(self._shared_state.reaper)
            for line in self._lines.finish():
                self._log(line)
            if self._reply is not None:
                # Its end and its last bytes come by different ways; the bytes were first.
                await self._api.last_words(seconds=LAST_WORDS)
            self._finish(lambda request_id: failures.exited(request_id, exit_status))
        finally:
            self.kill()  # if we failed ourselves; otherwise it has ended
            self._api.close()
            self._stop_limits()
            self._owner.instance_gone(self)

    def _finish(self, end: Callable[[str], Failure]) -> None:
        if self._end is not None:
            return
        self._end = end
        self._stop_limits()
        if self._reply is not None:
            self._reply.fail(end(self._request_id))
        self._changed.set()
        self._owner.instance_ended(self)

    # -- an invocation

    async def _serve(self, invocation: Invocation, reply: Reply) -> bytes:
        started = self._loop.time()
        # AWS counts the deadline on the wall clock.
        deadline_ms = int((time.time() + self._config.timeout) * 1000)  # noqa: TID251 - see above
        self._changed.clear()
        self._request_id, self._reply = invocation.request_id, reply
        self._tail.add_line(logs.start_line(invocation.request_id))
        self._limit_to(self._config.timeout, self._timed_out)
        self._weigh_later()
        self._session.deliver(Delivery(invocation, deadline_ms), reply)
        try:
            await reply.over()
        finally:
            self._reply = None
        return self._report(invocation, reply.failure, self._loop.time() - started)

    def _report(self, invocation: Invocation, failure: Failure | None, duration: float) -> bytes:
        if self._process is not None:
            self._process.drain()
        if failure is not None and failure.notice:
            self._log(failure.notice)
            self._tail.add_line(failure.notice)
        init_duration, self._init_duration = self._init_duration, None
        if not invocation.wants_log:
            self._tail.take()
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
        self._tail.add_line(logs.end_line(invocation.request_id))
        self._tail.add_line(report.line)
        return self._tail.take()

    def _report_failed_init(self, invocation: Invocation, reply: Reply, failure: Failure) -> bytes:
        assert self._started is not None
        duration = self._loop.time() - self._started
        self._tail.add_line(logs.failed_init_line(duration, _outcome(failure)))
        self._tail.add_line(logs.start_line(invocation.request_id))
        reply.fail(failure)
        return self._report(invocation, failure, duration)

    # -- what the runtime does (runtime_session.Observer)

    def runtime_ready(self) -> None:
        self._stop_limits()
        if self._end is not None:
            return
        has_served = self._request_id != ""
        if has_served and self._is_retired:
            self.kill()
            return
        if not has_served and self._started is not None:
            self._init_duration = self._loop.time() - self._started
        self._limit_to(self._shared_state.idle_timeout, self.kill)
        self._changed.set()

    def runtime_failed(self, failure: Failure) -> None:
        self._finish(lambda _request_id: failure)
        if self._process is not None:
            self._limit_to(INIT_ERROR_GRACE, self._process.kill)

    def runtime_answered(self, failure: Failure | None) -> None:
        if self._reply is None:
            return
        if failure is None:
            self._reply.end()
        else:
            self._reply.fail(failure)

    # -- what the process does

    def _write(self, output: bytes) -> None:
        self._tail.add(output)
        for line in self._lines.feed(output):
            self._log(line)

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

    def _check_memory(self) -> None:
        used, limit = self._look_at_memory(), self._config.memory
        if self._process is None or used <= limit:
            self._weigh_later()
            return
        self._log(f"out of memory: {used // MIB} MB used, {limit // MIB} MB allowed; killed")
        self._process.kill()

    def _weigh_later(self) -> None:
        self._memory_timer = self._loop.call_later(MEMORY_CHECK_SECONDS, self._check_memory)

    def _look_at_memory(self) -> int:
        used = 0 if self._process is None else self._process.memory()
        self._memory_used = max(self._memory_used, used)
        return used

    def _limit_to(self, seconds: float, act: Callable[[], None]) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self._loop.call_later(seconds, act)

    def _stop_limits(self) -> None:
        for timer in (self._limit, self._memory_timer):
            if timer is not None:
                timer.cancel()


def _why_not_started(error: OSError, config: FunctionConfig) -> str:
    # The error for a folder that is gone looks like the one for a program that is not there, and may name neither.
    folder_is_there = config.code.is_dir()
    at = f"fork/exec {error.filename or config.name}" if folder_is_there else f"chdir {config.code}"
    return f"{at}: {(error.strerror or 'failed').lower()}"


def _outcome(failure: Failure) -> str:
    if failure.error_type == "Sandbox.Timedout":
        return "Status: timeout"
    return f"Status: error\tError Type: {failure.error_type}"
