"""What `breakpoint()` does in a function that the local Lambda runs: the debugger pdb, on the bridge's terminal.

The local Lambda names this module in PYTHONBREAKPOINT, so nothing of it is loaded before the first breakpoint.
Functions have no terminal of their own. The bridge lends its terminal to one of them at a time, holds back what else
would be written to it, and lifts the time limit.
"""

from __future__ import annotations

import os
import pdb  # noqa: T100 - what this module is about
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

SOCKET = "LAMBDA_FN_BREAKPOINT_SOCKET"
"""The variable that names the socket where the bridge lends its terminal."""
_LONGEST_PATH = 4096


class NoTerminal(Exception):
    """The bridge has no terminal to lend."""


def stop(*_arguments: object, **_named: object) -> None:
    """Stop where the caller is, or say what to do instead."""
    caller = sys._getframe(1)  # noqa: SLF001 - the only way to it, which pdb uses too
    if not os.environ.get(SOCKET):
        sys.stderr.write(f"{_advice(caller)}\n")
        return
    _TerminalDebugger(os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "function"), caller).set_trace(caller)


def _advice(frame: FrameType) -> str:
    return (
        f"breakpoint() in {frame.f_code.co_filename}:{frame.f_lineno} was passed over, because the bridge runs without "
        "a terminal: run it in one, or attach an editor with `debug: 5678` in the function's configuration"
    )


class _TerminalDebugger(pdb.Pdb):
    """pdb, with the terminal borrowed for each stop. Between stops other functions may have it."""

    def __init__(self, function: str, stopped_in: FrameType) -> None:
        # Ctrl-C goes to the bridge, and a handler of signals can be set in the main thread only.
        super().__init__(nosigint=True)
        self.prompt = f"(Pdb {function}) "
        self.use_rawinput = False
        self._stopped_in = stopped_in

    def interaction(self, *arguments: Any, **named: Any) -> None:
        try:
            with _terminal() as (self.stdin, self.stdout):
                super().interaction(*arguments, **named)
        except NoTerminal:
            sys.stderr.write(f"{_advice(self._stopped_in)}\n")
            self.set_continue()


@contextmanager
def _terminal() -> Iterator[tuple[IO[str], IO[str]]]:
    """Borrow the bridge's terminal, when it is this function's turn. Raises NoTerminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    with socket.socket(socket.AF_UNIX) as lender:
        try:
            lender.connect(os.environ[SOCKET])
            path = lender.recv(_LONGEST_PATH).decode().strip()
            if not path:
                raise NoTerminal
            # Not as the controlling terminal: signals stay with the bridge.
            read, write = (os.open(path, flag | os.O_NOCTTY) for flag in (os.O_RDONLY, os.O_WRONLY))
        except OSError as error:
            raise NoTerminal from error
        with os.fdopen(read) as typed, os.fdopen(write, "w") as shown:
            yield typed, shown
        # The end of the connection gives the terminal back.
