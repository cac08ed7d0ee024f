"""Functions' lines on stderr: `greeter | text`, each function in its own colour if somebody looks. Where the log is
JSON, they are lines of the log, of the logger `function.greeter`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TextIO
from zlib import crc32

from msgspec import json

from bridge.logs import LogLine, encodable
from bridge.lossy_writer import MOST_WAITING, LossyWriter

COLOURS = (36, 32, 35, 33, 34, 96, 92, 95, 93, 94)

_RETRY_AFTER = 0.002
"""Seconds until lines that found no room are tried again: a pipe holds 64 KiB, a function may print 20 MB in a second.
"""
_LAST_PATIENCE = 1.0


class LogConsole:
    """Writes whole lines, at once, in the order given. Functions are not held up by whoever does not read: lines are
    lost then.
    """

    def __init__(self, stream: TextIO, *, as_json: bool = False, most_waiting: int = MOST_WAITING) -> None:
        """Take the stream. One without a descriptor (a test's) is simply written to. `most_waiting`: bytes that may
        wait for a reader that has stopped.
        """
        self._stream = stream
        self._as_json = as_json
        self._is_coloured = stream.isatty()
        try:
            self._outlet: LossyWriter | None = LossyWriter(stream.fileno(), most_waiting=most_waiting)
        except OSError:
            self._outlet = None
        self._is_held = False
        self._lost = 0
        self._retry: asyncio.TimerHandle | None = None

    def __call__(self, name: str, line: str) -> None:
        text = self._json(f"function.{name}", line) if self._as_json else f"{self._label(name)} | {line}\n"
        if self._outlet is None:
            self._stream.write(text)
            self._stream.flush()
        elif self._outlet.is_full:
            self._lost += 1
        else:
            self._outlet.add(text.encode("utf-8", "backslashreplace"))
            if self._retry is None and not self._is_held:
                self._write_out(self._outlet)

    def hold(self) -> None:
        """Keep what comes until `resume`, because a debugger writes to the same terminal. Too much is lost."""
        if self._outlet is not None:
            self._outlet.write_out(patience=_LAST_PATIENCE)
        self._is_held = True

    def resume(self) -> None:
        """Write what has come since `hold`."""
        self._is_held = False
        if self._outlet is not None and self._retry is None:
            self._write_out(self._outlet)

    def _write_out(self, outlet: LossyWriter) -> None:
        self._retry = None
        if self._is_held:
            return
        outlet.write_out()
        if self._lost and outlet.is_empty:
            lost, self._lost = self._lost, 0
            text = f"{lost} lines of functions were lost: the reader was too slow"
            outlet.add((self._json("function", text) if self._as_json else f"{text}\n").encode())
            outlet.write_out()
        if not outlet.is_empty:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(_RETRY_AFTER, self._write_out, outlet)

    def close(self) -> None:
        """Write the last lines, and wait a moment for room, because there is no later try."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._outlet is not None:
            self._outlet.write_out(patience=_LAST_PATIENCE)

    def _json(self, logger: str, text: str) -> str:
        line = LogLine(datetime.now(UTC), "info", logger, encodable(text))
        return json.encode(line).decode() + "\n"

    def _label(self, name: str) -> str:
        if not self._is_coloured:
            return name
        # A function keeps its colour from run to run; hash() is salted.
        return f"\x1b[{COLOURS[crc32(name.encode()) % len(COLOURS)]}m{name}\x1b[0m"
