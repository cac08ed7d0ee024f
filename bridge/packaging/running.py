"""Runs the programs that packages are made with. Each one ends with us, whatever ends us."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_MAX_OUTPUT = 1 << 20
"""Bytes of a program's output that are read: its end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended."""

    exit_code: int | None
    """None: it took too long and was ended. Negative: the number of the signal that ended it."""
    output: str
    """Its standard output."""
    errors: str
    """Its standard error, without blank lines at its ends."""


def run_program(
    command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str], seconds: float | None = None
) -> Ended:
    """Run a program to its end, without standard input. Raises OSError if it cannot be started."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - commands of our own
            [str(word) for word in command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        with _ended_with_us(process):
            try:
                exit_code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                exit_code = None
        return Ended(exit_code, _end_of(output), _end_of(errors).strip("\n"))


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the program, and all that it has started, when the block ends in any way."""
    try:
        yield
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_OUTPUT))
    return file.read().decode("utf-8", "replace")
