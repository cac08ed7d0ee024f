"""The threads that servicers run on: workers for plain functions, one event loop for coroutines.

Lambda's own thread only waits, so that it can answer in time whatever a servicer does. Both kinds of thread are kept
from call to call (with their thread-locals and connections), started when first needed, and die with the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Mapping
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

from lambda_fn.status import RESOURCE_EXHAUSTED, Refused

_logger = logging.getLogger("lambda_fn")

T = TypeVar("T")

SPARE_WORKERS = 32
"""Threads beyond those for the calls that Lambda sends at once. They are needed for servicers that outlive their
deadlines.
"""


def usual_workers(environment: Mapping[str, str]) -> int:
    """How many threads there are at most, unless the server says otherwise."""
    concurrency = environment.get("AWS_LAMBDA_MAX_CONCURRENCY", "")
    return SPARE_WORKERS + (int(concurrency) if concurrency.isdecimal() else 0)


class Saturated(Refused):
    """Every worker is still busy, most often with a call whose deadline has passed."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            RESOURCE_EXHAUSTED,
            f"all {limit} threads of this instance are busy (max_workers of LambdaServer): earlier calls may have"
            " outlived their deadlines and still run",
        )


class _Worker:
    __slots__ = ("jobs", "thread")

    def __init__(self, run: Callable[[_Worker], None]) -> None:
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.thread = Thread(target=run, args=(self,), name="lambda_fn worker", daemon=True)


class Workers:
    """Daemon threads, at most `limit` of them, the last one used first."""

    def __init__(self, limit: int = SPARE_WORKERS) -> None:
        self._limit = limit
        self._lock = Lock()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []

    def start(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, in a worker. Raises Saturated."""
        with self._lock:
            worker = self._idle.pop() if self._idle else self._new()
        worker.jobs.put(job)

    def _new(self) -> _Worker:
        if len(self._all) >= self._limit:
            raise Saturated(self._limit)
        worker = _Worker(self._run)
        self._all.append(worker)
        worker.thread.start()
        return worker

    def _run(self, worker: _Worker) -> None:
        while (job := worker.jobs.get()) is not None:
            job()
            del job
            with self._lock:
                if worker not in self._all:  # closed meanwhile: it has been told to end
                    return
                self._idle.append(worker)

    async def call(self, function: Callable[[], T]) -> T:
        """Return the result of `function`, run in a worker with the caller's context variables. Raises Saturated."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                result = context.run(function)
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                loop.call_soon_threadsafe(_fail, future, error)
            else:
                loop.call_soon_threadsafe(_succeed, future, result)

        self.start(run)
        return await future

    def close(self) -> None:
        """Let the workers end; those that are busy end after their job."""
        with self._lock:
            workers, self._all, self._idle = self._all, [], []
        for worker in workers:
            worker.jobs.put(None)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # a Future refuses it
        error = RuntimeError("StopIteration raised in a worker")
    future.set_exception(error)


def run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is stopped. A SystemExit of any task passes through asyncio: it must not end the loop of
    all later calls. Calls hand their own on by themselves.
    """
    while True:
        try:
            return loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            _logger.exception("a task meant to end the process; the event loop goes on")


class LoopThread:
    """One event loop in a thread of its own, so that a servicer's clients (channels, sessions) keep their loop."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        function: Callable[[], Coroutine[object, object, None]],
        *,
        closed: Callable[[], None],
    ) -> Callable[[], None]:
        """Run the coroutine function on the loop, then call `closed`, also if it is stopped before its first step; how
        to stop it.

        It gets a copy of the caller's context variables, and must not raise.
        """
        loop = self.running()
        started: list[asyncio.Task[None]] = []

        def start() -> None:
            task = loop.create_task(function())
            started.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: closed())

        def stop() -> None:
            # Callbacks of a loop keep their order: the task exists when this one runs.
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in started])

        loop.call_soon_threadsafe(start, context=contextvars.copy_context())
        return stop

    def running(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs in its thread from now on."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = Thread(target=self._run, args=(self._loop,), name="lambda_fn loop", daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            run_until_stopped(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(self._stop, loop)
        thread.join()

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in self._tasks:
            task.cancel()
        loop.call_soon(loop.stop)
