"""Runs one function process and its group: starts it, reads its output, measures its memory, and kills it. It does not
know Lambda.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bridge.emulator.instances.reaper import Reaper

READ_SIZE = 64 * 1024
MAX_DRAIN = 16
"""Reads at most when the pipe is emptied at once: a process may write faster than we read."""
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


class FunctionProcess:
    """A process in a group of its own. Its stdout and stderr share one pipe, so that lines keep their order.

    It has a folder for temporary files, as an instance on Lambda has its own /tmp: it is killed, and cannot tidy up.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: int,
        on_output: Callable[[bytes], None],
        temporary: Path | None,
    ) -> None:
        self._process = process
        self._temporary = temporary
        self._output = output
        self._on_output = on_output
        self._is_open = True
        os.set_blocking(output, False)
        asyncio.get_running_loop().add_reader(output, self._read)

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        on_output: Callable[[bytes], None],
    ) -> FunctionProcess:
        """Raise OSError if the command cannot be run. `environment` may name another folder in TMPDIR."""
        temporary = None if "TMPDIR" in environment else _temporary_folder()
        own = {} if temporary is None else {"TMPDIR": str(temporary)}
        output, child_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env={**environment, **own},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=child_end,
                stderr=child_end,
            )
        except BaseException:
            os.close(output)
            _remove(temporary)
            raise
        finally:
            os.close(child_end)
        return cls(process, output, on_output, temporary)

    async def run(self, reaper: Reaper) -> str:
        """Wait until the process has ended and return how, in AWS's words: `exit status 1`, `signal: killed`."""
        group = self._process.pid
        try:
            await reaper.watch(group, self._temporary)
            return _described(await self._process.wait())
        finally:
            self.kill()  # also what it started and left behind
            await self._process.wait()
            reaper.release(group)
            self.drain()
            self._close()

    async def tidy_up(self) -> None:
        """Remove the temporary files of a process that has ended. They may be many."""
        await asyncio.to_thread(_remove, self._temporary)

    def kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def drain(self) -> None:
        """Read what has been written so far."""
        for _ in range(MAX_DRAIN):
            if not self._read():
                return

    def memory(self) -> int:
        """Bytes of anonymous memory of the process and its descendants: no kernel can take it back. 0 without /proc."""
        return sum(_anonymous(pid) for pid in _family(self._process.pid))

    def _read(self) -> bool:
        if not self._is_open:
            return False
        try:
            data = os.read(self._output, READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        self._on_output(data)
        return True

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)


def _temporary_folder() -> Path | None:
    """Return a new folder. None where nothing can be written, as in a container with a read-only file system."""
    try:
        return Path(tempfile.mkdtemp(prefix="lambda-tmp-"))  # 0700: of this user alone
    except OSError:
        return None


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _described(return_code: int) -> str:
    if return_code >= 0:
        return f"exit status {return_code}"
    name = signal.strsignal(-return_code) or str(-return_code)
    return f"signal: {name.lower()}"


def _family(pid: int) -> list[int]:
    """Return the process and its descendants, as far as they can be seen."""
    family = [pid]
    for member in family:
        for tasks in PROC.glob(f"{member}/task/*/children"):
            try:
                family += map(int, tasks.read_text().split())
            except OSError:
                continue
    return family


def _anonymous(pid: int) -> int:
    try:
        _, resident, shared, *_ = (PROC / str(pid) / "statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE
