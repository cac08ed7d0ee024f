"""How a function starts under a debugger: debugpy for Python, the inspector for Node.js.

A debugger has one port, so one process at a time has it. A process that ends gives its port back a moment later.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from bridge.config.schema import LOOPBACK, Debug, FunctionConfig

NO_LIMIT = 24 * 3600.0
"""Seconds that a function which is debugged is told it may take."""
FREE_SECONDS = 10.0
"""Seconds that a port may take to be given back."""
_LISTENING_SECONDS = 60.0
"""Seconds that a debugger may take to listen. Then the function goes on without the line that says so."""
_LOOK_SECONDS = 0.05

WAIT_ARGUMENT = "--wait"
"""Tells our runtime for Node.js to wait for the editor."""


LINE_PREFIX = "debug: "
"""What lines about debuggers begin with."""


class CannotDebug(Exception):
    """The function cannot be started under its debugger. `str` says why and what to do."""


class DebugPorts:
    """Which ports functions' debuggers have. Another process waits until the one before it has ended."""

    def __init__(self, *, patience: float = FREE_SECONDS) -> None:
        """`patience`: seconds, see FREE_SECONDS."""
        self._patience = patience
        self._turns: dict[int, asyncio.Lock] = {}

    async def take(self, port: int) -> None:
        """Return when the port is ours and free. Raises CannotDebug if another program has it."""
        turn = self._turns.setdefault(port, asyncio.Lock())
        await turn.acquire()
        try:
            async with asyncio.timeout(self._patience):
                while not _is_free(port):  # noqa: ASYNC110 - other processes have it
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            turn.release()
            raise CannotDebug(
                f"{LOOPBACK}:{port} is taken by another program, so no debugger can listen there: "
                "end it (another bridge?), or choose another port for `debug`"
            ) from None
        except BaseException:
            turn.release()
            raise

    def release(self, port: int) -> None:
        """Give the port to the process that waits for it. The process that had it has ended."""
        _end_adapters(port)
        self._turns[port].release()


def _end_adapters(port: int) -> None:
    """End debugpy's own process that listens on this port.

    It leaves the group of the function's process, and ends when it loses it. But if the function was killed before the
    two were connected, it would wait for ever and keep the port. Linux only.
    """
    wanted = (b"--port", str(port).encode())
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if any(word.endswith(b"debugpy/adapter") for word in words) and wanted in pairwise(words):
                os.kill(int(file.parent.name), signal.SIGTERM)


async def listens(port: int, *, has_ended: Callable[[], bool]) -> bool:
    """Wait until a debugger listens on the port. False: the process has ended, or it takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LISTENING_SECONDS):
            while not has_ended():
                if not _is_free(port):
                    return True
                await asyncio.sleep(_LOOK_SECONDS)
    return False


def _is_free(port: int) -> bool:
    """Whether nobody listens there. It does not connect: a debugger would take that for an editor."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as debuggers do
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def python_arguments(debug: Debug | None) -> tuple[str, ...]:
    """Return what stands between the interpreter and the module that it runs."""
    if debug is None:
        return ()
    # Breakpoints do not work in modules that Python has frozen.
    listen = ("-X", "frozen_modules=off", "-m", "debugpy", "--listen", f"{LOOPBACK}:{debug.port}")
    return (*listen, "--wait-for-client") if debug.wait else listen


def node_arguments(debug: Debug | None) -> tuple[str, ...]:
    """Return what stands between `node` and the script that it runs."""
    return () if debug is None else (f"--inspect={LOOPBACK}:{debug.port}",)


def missing_debugpy(config: FunctionConfig) -> str:
    """Say what to install."""
    if config.python is None:
        return "`debug` needs debugpy: pip install 'grpc-lambda-bridge[debug]'"
    return f"`debug` needs debugpy where the function runs: {config.python} -m pip install debugpy"


def announcement(debug: Debug, *, is_node: bool) -> str:
    """Return the line that says where to attach, and what the debugger changes."""
    name = "the inspector of Node.js" if is_node else "debugpy"
    waits = " The function waits for an editor." if debug.wait else ""
    return (
        f"{LINE_PREFIX}{name} listens on {LOOPBACK}:{debug.port}.{waits} There is one instance and no time limit; "
        "a caller's own deadline still ends its call"
    )
