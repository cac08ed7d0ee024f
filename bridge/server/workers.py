"""Runs worker processes: spawned and never forked, restarted when they end, and told and asked as one.

It runs a command N times over inherited sockets. It does not know what the workers serve.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from msgspec import Raw
from msgspec.structs import replace

from bridge.config.problems import Problem
from bridge.server.control import (
    Begin,
    Channel,
    ControlMessage,
    Drain,
    ReportFigures,
    Serving,
    StartFailed,
    Unready,
    WorkerFigures,
)

_logger = logging.getLogger(__name__)

HANDED_OVER = b"s"
"""The byte that goes with each socket of the call console."""

_START_TIMEOUT = 60.0
_REPORT_TIMEOUT = 5.0
_STABLE_AFTER = 10.0
"""Seconds. If a worker ran longer than this, its end counts as an accident and not as a repeated failure."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class WorkerFailed(Exception):
    """A worker could not start. The text is the worker's, and so are the problems of its configuration."""

    def __init__(self, text: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(text)
        self.problems = problems


@dataclass(slots=True)
class _Worker:
    """One worker process."""

    number: int
    process: asyncio.subprocess.Process
    channel: Channel
    started: float
    serving: asyncio.Future[None]
    unready: tuple[str, ...] = ("starting",)
    reports: dict[int, asyncio.Future[Raw]] = field(default_factory=dict)
    latest: Raw | None = None
    """The last snapshot that the worker sent."""
    console: socket.socket | None = None
    """Over which the worker is handed sockets of the call console."""


class Workers:
    """All workers of a supervisor. Belongs to the running loop."""

    def __init__(self, count: int, command: Sequence[str], begin: Begin, *, has_console: bool = False) -> None:
        """`command` is run with the number of its control socket as the last argument. `has_console`: whether workers
        can be handed sockets of the call console.
        """
        self._has_console = has_console
        self._count = count
        self._command = command
        self._begin = begin
        self._workers: dict[int, _Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._reports = 0
        self._last_words: list[Raw] = []
        """The last snapshots of workers that have ended, until they are collected."""

    @property
    def unready(self) -> list[str]:
        """The reasons why workers should get no calls, each once."""
        missing = ["a worker is starting"] if len(self._workers) < self._count else []
        reasons = [reason for worker in self._workers.values() for reason in worker.unready]
        return list(dict.fromkeys([*missing, *reasons]))

    async def start(self) -> None:
        """Wait until every worker accepts calls. Raises WorkerFailed."""
        first = [await self._spawn(number) for number in range(1, self._count + 1)]
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(worker)) for worker in first]
        async with asyncio.timeout(_START_TIMEOUT):
            await asyncio.gather(*(worker.serving for worker in first))

    async def _spawn(self, number: int) -> _Worker:
        with ExitStack() as inherited:
            ours, theirs = socket.socketpair()
            inherited.enter_context(theirs)
            console: socket.socket | None = None
            begin = replace(self._begin, number=number)
            descriptors = [theirs.fileno(), *self._begin.listeners]
            if self._has_console:
                console, given = socket.socketpair()
                console.setblocking(False)  # noqa: FBT003 - the name of the method says it
                inherited.enter_context(given)
                descriptors.append(given.fileno())
                begin = replace(begin, console=given.fileno())
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        channel = await Channel.over(ours)
        channel.send(begin)
        loop = asyncio.get_running_loop()
        worker = _Worker(number, process, channel, loop.time(), loop.create_future(), console=console)
        self._workers[number] = worker
        return worker

    async def _keep(self, worker: _Worker) -> None:
        """Listen to the worker, and replace it whenever it ends."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            await self._listen(worker)
            code = await worker.process.wait()
            self._lose(worker, code)
            if self._is_stopping:
                return
            _logger.warning("worker %d ended with %d; starting another", worker.number, code)
            pause = _FIRST_PAUSE if loop.time() - worker.started > _STABLE_AFTER else pause * 2
            await asyncio.sleep(min(pause, _LONGEST_PAUSE))
            worker = await self._spawn(worker.number)

    async def _listen(self, worker: _Worker) -> None:
        while (message := await worker.channel.receive()) is not None:
            match message:
                case Serving():
                    _settle(worker.serving)
                case StartFailed(text, problems):
                    if not worker.serving.done():
                        worker.serving.set_exception(WorkerFailed(text, problems))
                        worker.serving.exception()  # a waiter sees the error; without one nothing else must be done
                case Unready(reasons):
                    worker.unready = reasons
                case WorkerFigures(number, snapshot):
                    worker.latest = snapshot
                    report = worker.reports.pop(number, None)
                    if report is not None and not report.done():
                        report.set_result(snapshot)
                case _:
                    _logger.error("worker %d sent an unexpected message", worker.number)

    def _lose(self, worker: _Worker, code: int) -> None:
        worker.channel.close()
        if worker.console is not None:
            worker.console.close()
        self._workers.pop(worker.number, None)
        if not worker.serving.done():
            worker.serving.set_exception(WorkerFailed(f"a worker ended with {code} before it served"))
            worker.serving.exception()
        for report in worker.reports.values():
            report.cancel()
        if worker.latest is not None:
            self._last_words.append(worker.latest)

    def tell(self, message: ControlMessage) -> None:
        """Send a message to every worker. Workers that start later read the configuration as it is then."""
        for worker in self._workers.values():
            worker.channel.send(message)

    def hand_over(self, sock: socket.socket) -> bool:
        """Hand a socket of the call console to a worker that serves, always to the same one while it does. Returns
        False if no worker takes it. The socket is closed here in any case.
        """
        with sock:
            for _, worker in sorted(self._workers.items()):
                if worker.console is None or not worker.serving.done() or worker.serving.exception() is not None:
                    continue
                try:
                    socket.send_fds(worker.console, [HANDED_OVER], [sock.fileno()])
                except OSError:
                    continue  # it ends, or takes none
                return True
        return False

    def begin_with(self, begin: Begin) -> None:
        """Set the first message for workers that start from now on."""
        self._begin = begin

    async def report(self, *, recent: bool = False) -> list[Raw]:
        """Return the encoded snapshots of all workers, the last one of a worker that does not answer in time. `recent`:
        with the last minutes.
        """
        loop = asyncio.get_running_loop()
        self._reports += 1
        number = self._reports
        asked: list[asyncio.Future[Raw]] = []
        for worker in self._workers.values():
            answer = worker.reports[number] = loop.create_future()
            worker.channel.send(ReportFigures(number, recent))
            asked.append(answer)
        if asked:
            await asyncio.wait(asked, timeout=_REPORT_TIMEOUT)
        for worker in self._workers.values():
            late = worker.reports.pop(number, None)
            if late is not None:
                late.cancel()
        return [worker.latest for worker in self._workers.values() if worker.latest is not None]

    def take_last_words(self) -> list[Raw]:
        """Return the last snapshots of workers that have ended since the last time this was asked."""
        words, self._last_words = self._last_words, []
        return words

    async def drain(self, *, allowed: float) -> None:
        """Tell every worker to finish. Workers that have not ended after `allowed` seconds are killed."""
        self._is_stopping = True
        self.tell(Drain())
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=allowed)
        await self.close()

    async def close(self) -> None:
        """End every worker now."""
        self._is_stopping = True
        for worker in tuple(self._workers.values()):
            if worker.process.returncode is None:
                worker.process.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def this_python(module: str) -> tuple[str, ...]:
    """Return the command that runs a module with this interpreter."""
    return (sys.executable, "-m", module)
