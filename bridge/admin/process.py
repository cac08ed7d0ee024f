"""What the operating system says of this process: Linux's /proc, and less elsewhere."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from bridge.admin.snapshot import ProcessSnapshot

_PROC = Path("/proc")


def process_snapshot(proc: Path = _PROC, *, helpers: int = 0) -> ProcessSnapshot:
    """Processor time, memory, open files and start of this process.

    `proc` is where procfs is mounted; `helpers`: bytes of memory of the processes that work for this one, which are
    added.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    snapshot = ProcessSnapshot(
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        max_files=_max_files(),
    )
    try:
        # proc(5), "/proc/pid/stat": the second field, a name in parentheses, may hold spaces; the third follows it.
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        snapshot.started = _started(proc, ticks=int(fields[19]))
        snapshot.virtual_bytes = int(fields[20])
        snapshot.resident_bytes = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") + helpers
        # One of them is the listing's own.
        snapshot.open_files = sum(1 for _ in (proc / "self/fd").iterdir()) - 1
    except OSError:
        return snapshot  # no procfs: not Linux, or hidden from us
    return snapshot


def _max_files() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _started(proc: Path, *, ticks: int) -> float | None:
    """Return the Unix time that lies this many clock ticks after the machine's start."""
    with (proc / "stat").open() as lines:
        for line in lines:
            if line.startswith("btime "):
                return float(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    return None
