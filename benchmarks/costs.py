"""What a million calls cost on Lambda and on machines that always run, and from which rate on the machines are cheaper.

    python -m benchmarks.costs --rate 200 --duration 0.05 --memory 0.5 --at-once 16

Knows formulas and list prices only. Prices change and depend on the region: give your own. Data transfer, logs, load
balancers, free tiers and discounts are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

MILLION = 1_000_000
HOUR = 3600.0

REQUEST = 0.20 / MILLION
"""$ for each request of an event function, and on Managed Instances (AWS Lambda pricing, us-east-1)."""
GB_SECOND = 0.0000133334
"""$ for a GB-second of an event function on arm64. On x86-64 it is 0.0000166667."""
FARGATE_VCPU_HOUR, FARGATE_GB_HOUR = 0.03238, 0.00356
"""$ for Linux on arm64 (AWS Fargate pricing, us-east-1). On x86-64: 0.04048 and 0.004445."""
MICROVM_VCPU_SECOND, MICROVM_GB_SECOND = 0.0000276944, 0.0000036667
"""$ while a MicroVM runs (us-east-1)."""
MICROVM_REQUESTS = 40.0
"""Requests a second that a MicroVM with 4 vCPUs takes (Lambda quotas; not adjustable)."""
MANAGED_FEE = 0.15
"""What Managed Instances cost on top of the EC2 instance."""
EC2_HOUR = 0.145
"""$ for an instance with 4 vCPUs and 8 GB. An example: it depends on the kind of instance and the region."""


@dataclass(frozen=True, slots=True)
class Work:
    """The calls."""

    duration: float
    """Seconds that a call takes in the function."""
    memory: float
    """GB of a Lambda function that serves one call at a time."""

    @property
    def on_lambda(self) -> float:
        """$ for one call of an event function."""
        return REQUEST + self.duration * self.memory * GB_SECOND


@dataclass(frozen=True, slots=True)
class Machines:
    """Machines that cost the same whether calls come or not."""

    name: str
    hourly: float
    """$ for one of them."""
    at_once: float
    """Calls that one of them serves at the same time."""
    least: int
    """How many run at least, for availability."""
    per_call: float = 0.0
    """$ beside the machines."""
    utilization: float = 0.6
    """The part of `at_once` that is planned for, so that bursts fit."""

    most: float = inf
    """Calls a second that one of them takes at most, whatever they need."""

    def full(self, work: Work) -> float:
        """Return the rate that fills one of them. Little's law: calls at once are rate times duration."""
        return min(self.at_once * self.utilization / work.duration, self.most)

    def needed(self, rate: float, work: Work) -> int:
        """Return how many serve this rate (calls a second)."""
        return max(self.least, ceil(rate / self.full(work)))

    def per_million(self, rate: float, work: Work) -> float:
        """Return the $ for a million calls that come at this rate."""
        return MILLION * (self.needed(rate, work) * self.hourly / (rate * HOUR) + self.per_call)

    def break_even(self, work: Work) -> float:
        """Return the rate (calls a second) from which on these are never dearer than an event function; inf: no rate.

        N machines pay from N times `one` on. They are needed from where N - 1 are full. Each further machine must pay
        at once when it is needed. That is so from the N on for which (N + 1) * one <= N * full.
        """
        saved = (work.on_lambda - self.per_call) * HOUR
        full = self.full(work)
        one = inf if saved <= 0 else self.hourly / saved
        if one >= full:
            return inf
        return one * max(self.least, ceil(one / (full - one)))


def usual(at_once: float) -> tuple[Machines, ...]:
    """Return the alternatives, each with `at_once` calls on a vCPU."""
    return (
        Machines("Fargate, 1 vCPU, 2 GB", FARGATE_VCPU_HOUR + 2 * FARGATE_GB_HOUR, at_once, least=2),
        Machines(
            "MicroVM, 4 vCPUs, 8 GB",
            HOUR * (4 * MICROVM_VCPU_SECOND + 8 * MICROVM_GB_SECOND),
            4 * at_once,
            least=1,
            most=MICROVM_REQUESTS,
        ),
        Machines(
            "Managed Instances, 4 vCPUs, 8 GB", EC2_HOUR * (1 + MANAGED_FEE), 4 * at_once, least=3, per_call=REQUEST
        ),
    )


def table(rate: float, work: Work, at_once: float) -> str:
    """Return the costs as a table in Markdown."""
    rows = [
        "| | $ for a million calls | runs | cheaper than a function from |",
        "|---|---:|---:|---:|",
        f"| event function, {work.memory:g} GB | {MILLION * work.on_lambda:.2f} | as called | |",
    ]
    for machines in usual(at_once):
        from_rate = machines.break_even(work)
        shown = "no rate" if from_rate == inf else f"{from_rate:.0f} calls/s"
        cost = machines.per_million(rate, work)
        rows.append(f"| {machines.name} | {cost:.2f} | {machines.needed(rate, work)} | {shown} |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second")
    parser.add_argument("--duration", type=float, default=0.05, help="seconds that a call takes in the function")
    parser.add_argument("--memory", type=float, default=0.5, help="GB of the function")
    parser.add_argument("--at-once", type=float, default=16.0, help="calls that a vCPU serves at once elsewhere")
    chosen = parser.parse_args(arguments)
    if min(chosen.rate, chosen.duration, chosen.memory, chosen.at_once) <= 0:
        parser.error("every number must be above 0")
    sys.stdout.write(table(chosen.rate, Work(chosen.duration, chosen.memory), chosen.at_once))
    return 0


if __name__ == "__main__":
    sys.exit(main())
