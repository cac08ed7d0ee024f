"""Runs the conversion processes of one bridge. They start on demand, end when idle, and take jobs in order.

It knows of jobs how much memory they may take, and counts that in the process's buffers while they run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from bridge.conversion.jobs import JOB_SECONDS, Conversion
from bridge.conversion.worker import COMMAND, START_SECONDS, Died, Worker
from bridge.rpc.buffers import Buffers, OpenAccount
from bridge.rpc.errors import BuffersFull, ConversionFailed, Draining, Overloaded
from bridge.rpc.value import FrozenValue
from bridge.services.descriptors import Descriptors


class ConversionLimits(FrozenValue, frozen=True):
    """How long jobs and processes may last, and how many jobs may wait."""

    waiting: int = 1000
    """Jobs that wait for a process."""
    idle_seconds: float = 60.0
    """Seconds after which a process without a job ends."""
    job_seconds: float = JOB_SECONDS
    """Seconds that one conversion may take. The process itself allows no more than JOB_SECONDS and a little."""
    grace: float = 0.25
    """Seconds in which a job whose call has ended may finish: most do, and a process need not be started again."""


_logger = logging.getLogger(__name__)


_LEAST_PART = 4
"""A job runs if it gets one part in so many of the memory that it wants: most need no more."""


@dataclass(slots=True)
class _Waiting:
    """A job that has no process yet."""

    wanted: int
    """Bytes of memory."""
    start: asyncio.Future[int]
    """The bytes that it gets."""


@dataclass(slots=True)
class _Set:
    """Descriptors that jobs name by a number."""

    descriptors: Descriptors
    users: int = 1


class ConversionPool:
    """Belongs to the running loop. Processes are started with the first job."""

    def __init__(
        self,
        *,
        buffers: Buffers,
        max_processes: int = 2,
        command: Sequence[str] = COMMAND,
        limits: ConversionLimits | None = None,
    ) -> None:
        """`buffers`: where the memory of jobs counts. What they convert, their calls count."""
        self._account = OpenAccount(buffers)
        self._max_processes = max_processes
        self._command = command
        self._limits = limits or ConversionLimits()
        self._sets: dict[int, _Set] = {}
        self._last_set = 0
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        """The one that was busy last at the end: the others get old and end."""
        self._running = 0
        """Jobs that have a process, or wait for it to start."""
        self._waiting: deque[_Waiting] = deque()
        self._jobs: set[asyncio.Task[bytes]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        """All, the jobs' among them."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def resident_bytes(self) -> int:
        """What the processes hold in memory."""
        return sum(worker.resident_bytes for worker in self._workers)

    # -- descriptors --------------------------------------------------------------------------------------------------

    def add(self, descriptors: Descriptors) -> int:
        """Return the number by which jobs name these descriptors until they are removed as often as added."""
        for set_id, known in self._sets.items():
            if known.descriptors is descriptors or _is_same(known.descriptors, descriptors):
                known.users += 1
                return set_id
        self._last_set += 1
        self._sets[self._last_set] = _Set(descriptors)
        return self._last_set

    def remove(self, set_id: int) -> None:
        """No job will name this set any more."""
        known = self._sets[set_id]
        known.users -= 1
        if not known.users:
            del self._sets[set_id]
            for worker in self._workers:
                self._spawn(_ignoring_death(worker.forget(set_id)))

    async def teach(self) -> None:
        """Return when the processes that run know all descriptors: calls need not wait for it."""
        await asyncio.gather(
            *(
                _ignoring_death(worker.learn(set_id, known.descriptors))
                for worker in tuple(self._workers)
                for set_id, known in tuple(self._sets.items())
            )
        )

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def run(self, job: Conversion, payload: bytes) -> bytes:
        """Return the result of one conversion. If it is cancelled, its place is free.

        Raises Overloaded, ConversionFailed, and what is wrong with the message.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise Overloaded(
                f"{self._limits.waiting} messages wait to be converted between protobuf and JSON; try again later",
                kind="conversions",
            )
        granted = await self._start_of(job.memory)
        job = replace(job, memory=granted)
        task = self._spawn(self._convert(job, payload))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        # Not at the end of _convert: a task that is cancelled before its first step runs no `finally`.
        task.add_done_callback(lambda _: self._ended(granted))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(self._limits.grace, task.cancel)
            raise

    async def _start_of(self, wanted: int) -> int:
        """Return when a job that wants so much memory may run, with what it gets. It counts as running then."""
        waiting = _Waiting(wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._begin_waiting()
        try:
            return await waiting.start
        except asyncio.CancelledError:
            if waiting.start.cancelled():
                self._waiting.remove(waiting)
            elif waiting.start.exception() is None:
                self._ended(waiting.start.result())
            raise

    def _begin_waiting(self) -> None:
        """Let jobs run that have waited, in their order, while there are processes and memory for them."""
        account = self._account
        while self._waiting and self._running < self._max_processes:
            first = self._waiting[0]
            granted = min(first.wanted, account.room)
            if granted >= first.wanted // _LEAST_PART:
                account.hold(granted)
                self._running += 1
                first.start.set_result(granted)
            elif self._running:
                return  # one that ends makes room
            else:
                first.start.set_exception(self._no_memory(first.wanted // _LEAST_PART))
            self._waiting.popleft()

    def _no_memory(self, memory: int) -> BuffersFull:
        buffers = self._account.buffers
        return BuffersFull(
            f"a conversion between protobuf and JSON that needs {memory} bytes of memory does not fit with the"
            f" {buffers.held} bytes that the bridge holds for calls: buffers is {buffers.limit} bytes;"
            " try again later, send less in one call, or raise buffers"
        )

    def _ended(self, memory: int) -> None:
        self._running -= 1
        self._account.let_go(memory)
        self._begin_waiting()

    async def _convert(self, job: Conversion, payload: bytes) -> bytes:
        worker = None
        try:
            worker = await self._worker_for(job)
            result = await worker.convert(job, payload, seconds=self._limits.job_seconds)
        except (Died, TimeoutError, OSError, asyncio.CancelledError) as error:
            if worker is not None:
                await self._discard(worker, error)
                worker = None
            if isinstance(error, asyncio.CancelledError):
                raise
            raise _failure(error, len(payload), job.memory, self._limits.job_seconds) from error
        else:
            return result
        finally:
            if worker is not None:
                self._keep(worker)

    async def _worker_for(self, job: Conversion) -> Worker:
        """Return a process that knows the job's descriptors and does nothing else. Raises Died, OSError."""
        worker = await self._take_idle() or await self._start()
        try:
            await worker.learn(job.set_id, self._sets[job.set_id].descriptors)
        except BaseException as error:
            await self._discard(worker, error)
            if isinstance(error, TimeoutError):
                raise Died(f"it was not ready within {START_SECONDS:g} s") from error
            raise
        return worker

    async def _take_idle(self) -> Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await self._end(worker)
        return None

    async def _start(self) -> Worker:
        """Start a process. A start is not broken off: the job keeps its place until the process is there, for the next
        job then.
        """
        starting = self._spawn(Worker.start(self._command))
        try:
            worker: Worker = await asyncio.shield(starting)
        except asyncio.CancelledError:
            worker = await starting
            self._workers.add(worker)
            self._keep(worker)
            raise
        self._workers.add(worker)
        return worker

    # -- processes ----------------------------------------------------------------------------------------------------

    def _keep(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        worker.idle_since = loop.time()
        self._idle.append(worker)
        if self._timer is None:
            self._timer = loop.call_later(self._limits.idle_seconds, self._end_idle)

    def _end_idle(self) -> None:
        loop = asyncio.get_running_loop()
        old = loop.time() - self._limits.idle_seconds
        while self._idle and self._idle[0].idle_since <= old:
            self._spawn(self._end(self._idle.pop(0)))
        self._timer = None
        if self._idle:
            self._timer = loop.call_at(self._idle[0].idle_since + self._limits.idle_seconds, self._end_idle)

    async def _end(self, worker: Worker) -> None:
        await worker.end()
        self._workers.discard(worker)

    async def _discard(self, worker: Worker, why: BaseException) -> None:
        """End a process whose job did not."""
        has_ended = isinstance(why, Died)
        code = await asyncio.shield(self._spawn(worker.end() if has_ended else worker.kill()))
        self._workers.discard(worker)
        if not isinstance(why, asyncio.CancelledError):
            _logger.warning(
                "a process that converts JSON ended with %d in the middle of a job (%s)",
                code,
                str(why) or type(why).__name__,
            )

    async def close(self) -> None:
        """End all processes now; jobs under way end with their calls. Fine at any time, and twice."""
        while self._waiting:
            self._waiting.popleft().start.set_exception(Draining("the bridge stops"))
        for job in tuple(self._jobs):
            job.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._idle.clear()
        await asyncio.gather(*(self._end(worker) for worker in self._workers))

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the call that waits for it is told, if there is one


async def _ignoring_death(told: Coroutine[Any, Any, None]) -> None:
    """Wait until the process is told. One that dies meanwhile is replaced by one that learns what its jobs need."""
    try:
        await told
    except (Died, TimeoutError):
        return


def _is_same(one: Descriptors, other: Descriptors) -> bool:
    return one.name == other.name and list(one.files) == list(other.files)


def _failure(error: BaseException, size: int, memory: int, seconds: float) -> ConversionFailed:
    if isinstance(error, TimeoutError):
        return ConversionFailed(
            f"the conversion of {size} bytes between protobuf and JSON took longer than {seconds:g} s:"
            " send less in one call, or use payload: grpc-web"
        )
    if isinstance(error, OSError):
        return ConversionFailed(
            "no process could be started that converts between protobuf and JSON"
            f" ({error.strerror}); the bridge's machine may lack memory or file descriptors"
        )
    return ConversionFailed(
        f"the process that converts {size} bytes between protobuf and JSON died; "
        f"it may have needed more than the {memory} bytes"
        " of memory that it has for them: send less in one call; the bridge's log has details"
    )
