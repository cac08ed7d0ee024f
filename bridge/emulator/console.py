"""Functions' lines on a terminal: `greeter | text`, each function in its own colour if somebody looks."""

from __future__ import annotations

from typing import TextIO
from zlib import crc32

COLOURS = (36, 32, 35, 33, 34, 96, 92, 95, 93, 94)


class Console:
    """Writes whole lines, at once, in the order given."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_coloured = stream.isatty()

    def __call__(self, name: str, line: str) -> None:
        self._stream.write(f"{self._label(name)} | {line}\n")
        self._stream.flush()

    def _label(self, name: str) -> str:
        if not self._is_coloured:
            return name
        # A function keeps its colour from run to run; hash() is salted.
        return f"\x1b[{COLOURS[crc32(name.encode()) % len(COLOURS)]}m{name}\x1b[0m"
