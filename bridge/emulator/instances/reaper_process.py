"""Kills the functions' processes if the bridge dies without a chance to do so itself.

A program of its own, started by `warden` and kept free of imports: `+PGID` and `-PGID` on lines come in on stdin; when stdin
ends, every process group that is still listed is killed. In place of PR_SET_PDEATHSIG, which knows Linux only, spares
grandchildren, and fires when the thread that started a process ends.
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
