"""The bridge's side of `reaper_process`: tells it which process groups live. There is one per local Lambda, started
with the first function.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("reaper_process.py")


class Reaper:
    """A small process in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()

    async def watch(self, group: int) -> None:
        """Have the process group killed if the bridge dies before it ends the group itself."""
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
        self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """Forget a group that is dead. Its number may be given to somebody else."""
        self._tell(f"-{group}\n")

    async def close(self) -> None:
        """End the reaper's process. Groups that it still watches are killed."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # A few bytes into an empty pipe: written at once, also if we are killed on the next line.
        self._process.stdin.write(line.encode())
