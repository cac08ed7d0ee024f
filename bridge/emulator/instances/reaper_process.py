"""Kills the functions' processes if the bridge dies without a chance to do so itself.

This is a separate program, started by `reaper` and kept free of imports. It reads lines with `+PGID` and `-PGID` from
stdin. When stdin ends, it kills every process group that is still listed. It replaces PR_SET_PDEATHSIG, which exists on
Linux only, spares grandchildren, and fires when the thread that started a process ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable


def outlive(lines: Iterable[str]) -> set[int]:
    """Read to the end and return the process groups that remain."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line.startswith("+") else groups.discard
        change(int(line[1:]))
    return groups


def main() -> None:
    for group in outlive(sys.stdin):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
