"""Shows how far the work of a command is: a bar on a terminal, and a line for each step elsewhere. Both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_WIDTH = 30
_SECONDS = 0.1
"""Between two looks of the bar. A terminal cannot show more, and writing takes time."""
_CLEAR_LINE = "\r\x1b[K"


class ProgressBar:
    """One step at a time. What it has drawn is gone at its end."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._now = now
        self._is_terminal = stream.isatty()
        self._what = ""
        self._drawn_at = 0.0

    def begin(self, what: str) -> None:
        """Name the step that begins."""
        self._what = what
        self._drawn_at = 0.0
        self._write(f"{_CLEAR_LINE}{what} ..." if self._is_terminal else f"{what}\n")

    def advance(self, done: int, whole: int) -> None:
        """Draw how many bytes are done, on a terminal."""
        now = self._now()
        if not self._is_terminal or now - self._drawn_at < _SECONDS:
            return
        self._drawn_at = now
        part = done / whole if whole else 1.0
        filled = int(part * _WIDTH)
        bar = "#" * filled + "-" * (_WIDTH - filled)
        self._write(f"{_CLEAR_LINE}{self._what} [{bar}] {part:4.0%} of {whole / (1 << 20):.1f} MiB")

    def close(self) -> None:
        """Remove what was drawn."""
        if self._is_terminal:
            self._write(_CLEAR_LINE)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads any more
            self._is_terminal = False


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """Yield a bar on stderr, which is gone after the block."""
    bar = ProgressBar(sys.stderr)
    try:
        yield bar
    finally:
        bar.close()
