"""Lends the terminal that the bridge runs on to functions whose code has reached a breakpoint().

One function has it at a time. Meanwhile the lines of all functions wait, so that what the debugger shows can be read.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.emulator.instances.console import LogConsole

_MOST_WAITING = 64
"""Threads of one instance that may wait for the terminal."""


def terminal_path() -> str | None:
    """Return the path of the terminal that this process reads from and writes to. None: there is none, or a shell has
    it.
    """
    try:
        if not os.isatty(0) or not os.isatty(2) or os.tcgetpgrp(0) != os.getpgrp():
            return None
        return os.ttyname(0)
    except OSError:
        return None


class Terminal:
    """The terminal, for one debugger at a time."""

    def __init__(self, path: str, console: LogConsole) -> None:
        self._path = path
        self._console = console
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[str]:
        """Wait for the turn, and yield the path of the terminal. Nothing else of functions is written meanwhile."""
        async with self._turn:
            self._console.hold()
            try:
                yield self._path
            finally:
                self._console.resume()


class BreakpointSocket:
    """Where the process of one instance asks for the terminal. Each connection is one stop."""

    def __init__(self, terminal: Terminal, stopped: Callable[[], None]) -> None:
        """Take `stopped`, which is called when a function has stopped, before its debugger gets the terminal."""
        self._terminal = terminal
        self._stopped = stopped
        self._folder: Path | None = None
        self._server: asyncio.Server | None = None
        self._stops: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Listen, and return the path. Raises OSError."""
        self._folder = Path(tempfile.mkdtemp(prefix="lambda-pdb-"))  # only this user may enter it
        path = str(self._folder / "socket")
        self._server = await asyncio.start_unix_server(self._accept, path)
        return path

    def close(self) -> None:
        """Stop listening, and take the terminal back."""
        if self._server is not None:
            self._server.close()
        for stop in self._stops:
            stop.cancel()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._stops) >= _MOST_WAITING:
            writer.close()
            return
        stop = asyncio.get_running_loop().create_task(self._stop(reader, writer))
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)

    async def _stop(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._stopped()
            async with self._terminal.lent() as path:
                writer.write(f"{path}\n".encode())
                await reader.read()  # until the debugger is done, or its process has ended
        except ConnectionError:
            pass
        finally:
            writer.close()
