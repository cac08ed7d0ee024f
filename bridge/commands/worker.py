"""`python -m bridge.commands.worker FD`: one worker of a supervisor, told over the control socket FD what to serve and
when to end.

It ends, after a drain, when it is told to, when it gets SIGTERM itself, and when the supervisor has gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from msgspec import Raw
from msgspec.json import encode

from bridge import logs
from bridge.app import Bridge
from bridge.commands import collector
from bridge.config.load import load
from bridge.config.problems import ConfigErrors
from bridge.config.schema import Config
from bridge.rpc.redaction import Redactor
from bridge.server.control import (
    Begin,
    Changed,
    Channel,
    Drain,
    ReloadWorker,
    ReportFigures,
    Serving,
    StartFailed,
    Unready,
    WorkerFigures,
)
from bridge.server.server import BoundSocket
from bridge.server.workers import HANDED_OVER

_logger = logging.getLogger(__name__)

_READINESS_INTERVAL = 0.25


def main() -> int:
    control = socket.socket(fileno=int(sys.argv[1]))
    # The terminal's Ctrl-C and a reload reach the whole process group: they are the supervisor's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return uvloop.run(_Worker(control).run())


class _Worker:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._channel: Channel
        self._begin: Begin

    async def run(self) -> int:
        self._channel = await Channel.over(self._control)
        begin = await self._channel.receive()
        if not isinstance(begin, Begin):
            return 1
        self._begin = begin
        try:
            config = self._load()
            logs.set_up(
                level=config.log.level,
                log_format=config.log.format,
                redact=Redactor(config.secrets),
            )
            bridge = Bridge(config, self._sockets(config), environ=os.environ, number=begin.number)
            await bridge.start(local_endpoint=begin.local_endpoint)
        except (ConfigErrors, OSError, ValueError) as error:
            problems = error.problems if isinstance(error, ConfigErrors) else ()
            self._channel.send(StartFailed(str(error), problems))
            await asyncio.sleep(0.1)  # for the message to leave
            return 1
        if begin.number == 1:
            bridge.warn_of_exposure()  # once for all workers
        collector.settle()
        self._channel.send(Serving())
        try:
            with self._taking_console(bridge):
                await self._obey(bridge)
                await bridge.drain()
        finally:
            await bridge.close()
        return 0

    def _load(self) -> Config:
        begin = self._begin
        return load(Path(begin.file), environ=os.environ, overrides=begin.overrides)

    def _sockets(self, config: Config) -> list[BoundSocket]:
        return [
            BoundSocket(listener, socket.socket(fileno=descriptor), is_shared=True)
            for listener, descriptor in zip(config.listen, self._begin.listeners, strict=True)
        ]

    @contextmanager
    def _taking_console(self, bridge: Bridge) -> Iterator[None]:
        """Take the sockets of the call console that the supervisor hands over, while the block runs."""
        if self._begin.console is None:
            yield
            return
        loop = asyncio.get_running_loop()
        with socket.socket(fileno=self._begin.console) as handed:
            handed.set_inheritable(False)
            handed.setblocking(False)  # noqa: FBT003 - the name of the method says it
            loop.add_reader(handed, _take_console, handed, bridge)
            try:
                yield
            finally:
                loop.remove_reader(handed)

    async def _obey(self, bridge: Bridge) -> None:
        """Do what the supervisor says, until it says drain."""
        loop = asyncio.get_running_loop()
        told = loop.create_task(self._converse(bridge))
        terminated = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, terminated.set)
        others = [
            loop.create_task(self._tell_readiness(bridge)),
            loop.create_task(terminated.wait()),
        ]
        try:
            await asyncio.wait((told, others[1]), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (told, *others):
                task.cancel()
            await asyncio.gather(told, *others, return_exceptions=True)

    async def _converse(self, bridge: Bridge) -> None:
        while (message := await self._channel.receive()) is not None:
            match message:
                case Drain():
                    return
                case ReloadWorker(local_endpoint):
                    await self._reload(bridge, local_endpoint)
                case Changed(function):
                    bridge.forget(function)
                case ReportFigures(number, recent):
                    self._channel.send(WorkerFigures(number, Raw(encode(bridge.snapshot(recent=recent)))))
                case _:
                    _logger.error("the supervisor sent an unexpected message")

    async def _reload(self, bridge: Bridge, local_endpoint: str) -> None:
        try:
            await bridge.reload(await asyncio.to_thread(self._load), local_endpoint=local_endpoint)
        except (ConfigErrors, OSError, ValueError) as error:
            _logger.error("this worker keeps the old configuration: %s", error)  # noqa: TRY400 - the file's fault

    async def _tell_readiness(self, bridge: Bridge) -> None:
        told: list[str] | None = None
        while True:
            if bridge.unready != told:
                told = bridge.unready
                self._channel.send(Unready(tuple(told)))
            await asyncio.sleep(_READINESS_INTERVAL)


def _take_console(handed: socket.socket, bridge: Bridge) -> None:
    try:
        data, descriptors, _, _ = socket.recv_fds(handed, len(HANDED_OVER), 1)
    except BlockingIOError:
        return
    if not data:  # the supervisor has gone
        asyncio.get_running_loop().remove_reader(handed)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - a process that converts would keep it open
        bridge.serve_console(socket.socket(fileno=descriptor))


if __name__ == "__main__":
    raise SystemExit(main())
