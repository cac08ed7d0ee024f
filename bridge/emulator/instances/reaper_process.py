"""Kills the functions' processes, and removes their temporary files, if the bridge dies without a chance to do so
itself.

This is a separate program, started by `reaper` and kept free of imports. It reads lines with `+PGID FOLDER` and `-PGID`
from stdin. When stdin ends, it kills every process group that is still listed, and removes its folder. It replaces
PR_SET_PDEATHSIG, which exists on Linux only, spares grandchildren, and fires when the thread that started a process
ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable


def outlive(lines: Iterable[bytes]) -> dict[int, bytes]:
    """Read to the end. Return the process groups that remain, each with its folder, or with nothing if it has none."""
    groups: dict[int, bytes] = {}
    for line in lines:
        number, _, folder = line[1:].rstrip(b"\n").partition(b" ")
        if line.startswith(b"+"):
            groups[int(number)] = folder
        else:
            groups.pop(int(number), None)
    return groups


def main() -> None:
    remaining = outlive(sys.stdin.buffer)
    for group in remaining:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for folder in filter(None, remaining.values()):
        import shutil  # the program is small until then

        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
