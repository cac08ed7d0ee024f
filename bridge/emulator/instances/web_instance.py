"""One environment of a Web Function: a process that serves HTTP/1.1 at the address it was given, for many requests at
once.

It starts with its first request, and is ready when it accepts a connection. It ends by itself, by idleness or by its
owner. A process is killed, never asked.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from bridge.config.schema import LOOPBACK, FunctionConfig
from bridge.emulator.instances import environment
from bridge.emulator.instances.logs import LineSplitter
from bridge.emulator.instances.process import FunctionProcess
from bridge.emulator.instances.shared_state import SharedEmulatorState

_KNOCK_EVERY = 0.02
"""Seconds between two tries to connect to a process that starts."""


class NotServing(Exception):
    """The process does not take requests. `str` says why, for the function's log."""


class WebInstance:
    """A process and how many requests it serves. The owner counts them in `in_use`."""

    def __init__(
        self,
        config: FunctionConfig,
        shared: SharedEmulatorState,
        *,
        log: Callable[[str], None],
        ended: Callable[[WebInstance], None],
    ) -> None:
        """Start the process. `ended` is called once, when nothing of it is left."""
        self._config = config
        self._shared = shared
        self._log = log
        self._ended = ended
        self._lines = LineSplitter()
        self._process: FunctionProcess | None = None
        self._end = ""
        """How the process ended, in AWS's words; empty while it runs."""
        self._idle: asyncio.TimerHandle | None = None
        self.port = 0
        self.log_stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/{uuid4().hex}"
        self.in_use = 0
        self.is_retired = False
        self._life = asyncio.get_running_loop().create_task(self._live())
        self._started = asyncio.get_running_loop().create_task(self._start())
        self._started.add_done_callback(_retrieve)  # whoever waited may have left

    @property
    def is_usable(self) -> bool:
        return not self._end and not self.is_retired

    async def ready(self) -> None:
        """Wait until the process takes requests. Raises NotServing."""
        await asyncio.shield(self._started)

    def take(self) -> None:
        """Count one more request."""
        self.in_use += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def release(self) -> None:
        """Count one request less. The last one lets a retired process end, and another become idle."""
        self.in_use -= 1
        if self.in_use or self._end:
            return
        if self.is_retired:
            self.kill()
        else:
            self._idle = asyncio.get_running_loop().call_later(self._shared.idle_timeout, self.kill)

    def retire(self) -> None:
        """Take no more requests, and end when those in flight are done."""
        self.is_retired = True
        if not self.in_use:
            self.kill()

    def kill(self) -> None:
        self.is_retired = True
        if self._process is not None:
            self._process.kill()

    async def has_ended(self, *, within: float) -> bool:
        """Whether the process ends within so many seconds. Its connections close before its end is known."""
        await asyncio.wait([self._life], timeout=within)
        return bool(self._end)

    async def gone(self) -> None:
        """Return when nothing of the process is left."""
        await asyncio.wait([self._life, self._started])

    # -- from start to end

    async def _live(self) -> None:
        try:
            await self._run()
        finally:
            if self._idle is not None:
                self._idle.cancel()
            self._ended(self)

    async def _run(self) -> None:
        self.port = _free_port()
        config = self._config
        try:
            self._process = process = await FunctionProcess.start(
                environment.command_of(config),
                folder=config.code,
                environment=environment.web_environment_of(
                    config, endpoint=f"{LOOPBACK}:{self.port}", log_stream=self.log_stream
                ),
                on_output=self._write,
            )
        except OSError as error:
            self._end = f"{(error.strerror or 'failed').lower()}: {error.filename or config.code}"
            return
        if self.is_retired:
            process.kill()
        try:
            self._end = await process.run(self._shared.reaper)
        finally:
            self._end = self._end or "signal: killed"
            for line in self._lines.finish():
                self._log(line)
            await process.tidy_up()

    async def _start(self) -> None:
        """Wait until the process accepts connections. Raises NotServing."""
        seconds = self._shared.init_timeout
        try:
            async with asyncio.timeout(seconds):
                while not self._end:
                    if self._process is not None and await self._accepts():
                        return
                    await asyncio.sleep(_KNOCK_EVERY)
        except TimeoutError:
            self.kill()
            raise NotServing(
                f"nothing listens on AWS_LAMBDA_HTTP_ENDPOINT ({LOOPBACK}:{self.port}) after {seconds:g} s"
            ) from None
        raise NotServing(f"its process ended before it listened: {self._end}")

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True

    def _write(self, output: bytes) -> None:
        for line in self._lines.feed(output):
            self._log(line)


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _free_port() -> int:
    """Return a port that nobody listens on at this moment. The process must bind it itself, so it cannot be kept."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
