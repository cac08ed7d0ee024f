"""One attack on one proxy: what a well-behaved neighbour waits meanwhile, and what the proxy spends.

Neighbour, attacker and proxy are processes of their own. The attacker yields to the neighbour (nice), so that the
neighbour's clock shows what the proxy does and not what the machine has to share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.hostile.neighbour import Waits

ROOT = Path(__file__).parents[2]
_BEFORE = 0.5
"""Seconds in which the neighbour calls alone."""
_ATTACKER_NICENESS = 10
_TICKS = os.sysconf("SC_CLK_TCK")
_GRACE = 30.0
"""Seconds beyond its time after which a started process counts as stuck."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attack did."""

    waits: Waits
    sent: int
    """Bytes, by the attacker."""
    cpu: float
    """Seconds of the proxy's processes."""
    calls_meanwhile: int
    """The neighbour's calls that ended while the attacker ran."""
    memory_before: int
    peak_memory: int
    """Bytes resident, of all of the proxy's processes."""

    @property
    def cpu_per_megabyte(self) -> float:
        """In seconds; infinite where nothing was sent."""
        return self.cpu / (self.sent / 1e6) if self.sent else float("inf")


@dataclass(frozen=True, slots=True)
class Victim:
    """A proxy that is attacked, and how to reach it."""

    name: str
    pid: int
    address: str
    """`127.0.0.1:50051`."""
    path: str
    """The method that the neighbour calls."""
    authority: Path | None = None
    """The PEM that signed its certificate; None: plain TCP."""


def attack(victim: Victim, attack_name: str | None, seconds: float, *, core: int | None = None) -> Outcome:
    """Let the attack run for so long; None: nobody attacks. `core`: where neighbour and attacker run; None:
    anywhere.
    """
    tls = [] if victim.authority is None else ["--authority", str(victim.authority)]
    neighbour = _start("neighbour", victim.address, victim.path, str(seconds + _BEFORE), *tls, core=core)
    time.sleep(_BEFORE + 0.5)
    before, spent = _resident(victim.pid, "VmRSS"), _cpu(victim.pid)
    began = time.monotonic()
    attacker = None
    if attack_name is not None:
        attacker = _start(
            "attacker", attack_name, victim.address, str(seconds), *tls, core=core, niceness=_ATTACKER_NICENESS
        )
    waits = Waits(**json.loads(_output(neighbour, seconds)))
    sent = int(_output(attacker, seconds)) if attacker is not None else 0
    return Outcome(
        waits,
        sent,
        _cpu(victim.pid) - spent,
        waits.ended_within(began, time.monotonic()),
        before,
        _resident(victim.pid, "VmHWM"),
    )


def _start(module: str, *arguments: str, core: int | None, niceness: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"benchmarks.hostile.{module}", *arguments]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    if niceness:
        command = ["nice", "-n", str(niceness), *command]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _output(process: subprocess.Popen[str], seconds: float) -> str:
    try:
        told, _ = process.communicate(timeout=seconds + _GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return told


# -- what the proxy's processes have used ------------------------------------------------------------------------------


def _resident(pid: int, field: str) -> int:
    return sum(_status(each, field) for each in _family(pid))


def _status(pid: int, field: str) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _cpu(pid: int) -> float:
    """Seconds, of children that have ended as well."""
    total = 0
    for each in _family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def _family(pid: int) -> Sequence[int]:
    """A process, its children, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return (pid,)
    return (pid, *(each for child in children for each in _family(int(child))))
