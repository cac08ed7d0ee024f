"""What a fleet of bridges needs, from the benchmark's own results.

    python -m benchmarks.sizing --rate 10000 1000000 --duration 0.05

Knows formulas, Lambda's quotas, and the figures in benchmarks/results/results.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results/results.json"
PEER = "bridge, Python 3.11.2, release build"
"""The slowest of the interpreters that were measured."""

UTILIZATION = 0.6
"""The part of a core that is planned for, so that bursts fit."""
LEAST = 2
"""Processes, in different zones."""
BURST = 1000
"""Instances that a function gets at once, and again every 10 s (Lambda developer guide, "Lambda scaling behavior")."""
BURST_RATE = 10_000
"""Calls a second that it takes at once, and again every 10 s (the same page)."""
RATE_QUOTA = 10
"""Calls a second that an account may make, for each of its calls at once (Lambda quotas)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the benchmark says about a process."""

    cpu: float
    """Seconds of a core for a small call, at 2,000 calls/s and with TLS to Lambda's API."""
    memory: float
    """MiB after the benchmark."""
    connection: float
    """KiB of a further connection."""
    call: float
    """KiB of a further call in flight."""

    @classmethod
    def read(cls, path: Path = RESULTS) -> Measured:
        """Read the medians of the benchmark's last run."""
        figures = json.loads(path.read_text())["beside"][PEER]

        def of(name: str) -> float:
            return float(median(figures[name]["rounds"]))

        return cls(
            cpu=of("CPU a call at 2000 calls/s, TLS upstream") / 1e6,
            memory=of("memory after the run"),
            connection=of("memory of a further connection"),
            call=of("memory of a further call in flight"),
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """Bridges for so many calls a second, each of which takes so many seconds in the function."""

    rate: float
    duration: float
    measured: Measured

    @property
    def cores(self) -> float:
        return self.rate * self.measured.cpu / UTILIZATION

    @property
    def processes(self) -> int:
        return max(LEAST, ceil(self.cores))

    @property
    def at_once(self) -> int:
        """Calls in flight in the whole fleet (Little's law)."""
        return ceil(self.rate * self.duration)

    @property
    def max_concurrency(self) -> int:
        """Twice what a process has in flight, rounded up."""
        return 100 * ceil(2 * self.at_once / self.processes / 100)

    @property
    def files(self) -> int:
        """Open files of a process, beside its client connections."""
        return self.max_concurrency + 100

    @property
    def memory(self) -> int:
        """MiB of a process with 1,000 client connections and `max_concurrency` calls in flight."""
        kib = 1000 * self.measured.connection + self.max_concurrency * self.measured.call
        return ceil(self.measured.memory + kib / 1024)

    @property
    def quota(self) -> int:
        """Calls at once that the account must allow."""
        return max(self.at_once, ceil(self.rate / RATE_QUOTA))

    def seconds_to_grow(self, functions: int = 1) -> float:
        """Return how long Lambda takes until these cold functions serve everything, if it is spread evenly."""
        instances = (self.at_once / functions - BURST) / (BURST / 10)
        rate = (self.rate / functions - BURST_RATE) / (BURST_RATE / 10)
        return max(0.0, instances, rate)


_ROWS: tuple[tuple[str, str, Callable[[Fleet], str]], ...] = (
    ("cores", "calls/s * CPU a call ÷ 0.6", lambda fleet: f"{fleet.cores:.1f}"),
    ("processes: `workers`, or pods with 1 core", "cores, rounded up, at least 2", lambda fleet: f"{fleet.processes}"),
    ("calls in flight, in all", "calls/s * seconds a call", lambda fleet: f"{fleet.at_once:,}"),
    ("`max_concurrency`", "calls in flight ÷ processes * 2", lambda fleet: f"{fleet.max_concurrency:,}"),
    (
        "open files of a process",
        "`max_concurrency`, since Invoke is HTTP/1.1, + 100 + client connections",
        lambda fleet: f"{fleet.files:,} + clients",
    ),
    (
        "memory of a process, without messages",
        "with 1,000 client connections and `max_concurrency` calls",
        lambda fleet: f"{fleet.memory} MiB",
    ),
    ("Lambda's quota of calls at once", "calls in flight, or calls/s ÷ 10", lambda fleet: f"{fleet.quota:,}"),
    (
        "until one cold function has grown",
        "1,000 instances and 10,000 calls/s every 10 s",
        lambda fleet: f"{fleet.seconds_to_grow():.0f} s",
    ),
    (
        "the same for 100 functions",
        "calls spread evenly over them",
        lambda fleet: f"{fleet.seconds_to_grow(100):.0f} s",
    ),
)


def table(rates: Sequence[float], duration: float, measured: Measured) -> str:
    """Return what fleets for these rates need, as a table in Markdown."""
    fleets = [Fleet(rate, duration, measured) for rate in rates]
    titles = " | ".join(f"{rate:,.0f} calls/s" for rate in rates)
    lines = [
        f"| What you need | How to find it | {titles} |",
        f"|---|---|{'---:|' * len(fleets)}",
        *(f"| {what} | {how} | {' | '.join(map(find, fleets))} |" for what, how, find in _ROWS),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, nargs="+", default=[10_000.0], help="calls a second")
    parser.add_argument("--duration", type=float, default=0.05, help="seconds that a call takes in the function")
    chosen = parser.parse_args(arguments)
    if min(*chosen.rate, chosen.duration) <= 0:
        parser.error("every number must be above 0")
    sys.stdout.write(table(chosen.rate, chosen.duration, Measured.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
