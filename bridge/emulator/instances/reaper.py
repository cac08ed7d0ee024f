"""The bridge's side of `reaper_process`: tells it which process groups live. There is one per local Lambda, started
with the first function.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("reaper_process.py")


class Reaper:
    """A small process in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    async def watch(self, group: int, folder: Path | None = None) -> None:
        """Have the process group killed, and its folder removed, if the bridge dies before it does so itself."""
        async with self._starting:
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    "-S",
                    str(PROGRAM),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
        path = b"" if folder is None else os.fsencode(folder)
        # A path of two lines, which only an odd TMPDIR has, would not be understood.
        self._tell(b"+%d %b\n" % (group, path if b"\n" not in path else b""))

    def release(self, group: int) -> None:
        """Forget a group that is dead. Its number may be given to somebody else."""
        self._tell(b"-%d\n" % group)

    async def close(self) -> None:
        """End the reaper's process. Groups that it still watches are killed."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    def _tell(self, line: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # A few bytes into an empty pipe: written at once, also if we are killed on the next line.
        self._process.stdin.write(line)
