"""What is simulated for docs/scaling.md. Each scenario is a function of a seed and a size, and gives curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from statistics import fmean

from benchmarks.fleet.clock import Clock
from benchmarks.fleet.lambda_function import LambdaFunction
from benchmarks.fleet.process import FleetCall, Outcome, Process
from benchmarks.fleet.simulation import Fleet
from benchmarks.sizing import UTILIZATION
from bridge.rpc.errors import Quota

CPU = 67e-6
"""Seconds of a core for a small call at 2,000 calls/s with TLS to Lambda's API (benchmarks/results/results.md)."""
RATE = 1_000_000
"""Calls a second."""
DURATION = 0.05
"""Seconds in the function."""
DEADLINE = 2.0
"""Seconds that clients wait."""


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    points: tuple[tuple[float, float], ...]
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture: its file, what it shows, and the curves."""

    file: str
    title: str
    across: str
    up: str
    curves: tuple[Curve, ...]
    limit: tuple[float, str] | None = None
    """A height that means something, and what."""
    most: float | None = None
    """The highest value that the picture has room for."""
    notes: tuple[str, ...] = field(default=())
    """Facts that the page says. A line each."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the fleet, in which one call stands for `scale`."""

    processes: int
    scale: float

    @property
    def rate(self) -> float:
        """Simulated calls a second that load each core to UTILIZATION."""
        return self.processes * UTILIZATION / (CPU * self.scale)

    def fleet(
        self, clock: Clock, *, channels: int, is_round_robin: bool = False, max_age: float | None = None
    ) -> Fleet:
        """Return these processes in front of a function that has all instances it needs."""
        function = LambdaFunction(duration=DURATION, scale=1 / self.scale)
        function.instances = 10**9
        new = partial(_new_process, clock, function, self.scale)
        return Fleet(
            clock, new, processes=self.processes, channels=channels, is_round_robin=is_round_robin, max_age=max_age
        )


def _new_process(
    clock: Clock, function: LambdaFunction, scale: float, end: Callable[[FleetCall, Outcome], None]
) -> Process:
    return Process(clock, function, cpu=CPU * scale, end=end, deadline=DEADLINE)


# -- the scenarios -----------------------------------------------------------------------------------------------------


def balance(seed: int = 1, *, effort: float = 1.0) -> Plot:
    """How evenly channels load the processes."""
    whole = Slice(ceil(RATE * CPU / UTILIZATION), scale=100)
    seconds = 10 * effort
    few, many = round(1.8 * whole.processes), 90 * whole.processes
    cases = (
        (f"{few:,} channels, a connection each", few, False),
        (f"{many:,} channels, a connection each", many, False),
        (f"{few:,} channels, round_robin", few, True),
    )
    curves: list[Curve] = []
    notes: list[str] = []
    for name, channels, is_round_robin in cases:
        fleet = whole.fleet(Clock(seed), channels=channels, is_round_robin=is_round_robin)
        fleet.load(whole.rate, until=seconds)
        fleet.watch(seconds, until=seconds)
        fleet.clock.run(seconds)
        loads = sorted(fleet.samples[0].load)
        curves.append(Curve(name, tuple((float(rank + 1), load) for rank, load in enumerate(loads))))
        late = fleet.ended[Outcome.LATE] / fleet.arrived
        notes.append(
            f"{name}: the busiest process gets {loads[-1]:.2f} cores of work, {late:.0%} of the calls are late"
        )
    return Plot(
        "scaling-balance.svg",
        f"Work for each of {whole.processes} processes at {RATE:,} calls/s",
        "processes, the least busy first",
        "cores of work",
        tuple(curves),
        limit=(1.0, "all that a process has"),
        most=3.0,
        notes=tuple(notes),
    )


def growth(seed: int = 1, *, effort: float = 1.0) -> Plot:
    """What new processes get to do, with and without max_connection_age."""
    old = Slice(84, scale=2000)
    added, at, until, every = 28, 60.0, 60.0 + 240.0 * effort, 10.0
    curves: list[Curve] = []
    notes: list[str] = []
    for name, max_age in (("without max_connection_age", None), ("max_connection_age: 2m", 120.0)):
        fleet = old.fleet(Clock(seed), channels=2000, max_age=max_age)
        fleet.load(old.rate * 4 / 3, until=until)
        fleet.watch(every, until=until)
        for _ in range(added):
            fleet.clock.at(at, fleet.add)
        fleet.clock.run(until)
        samples = fleet.samples
        curves.append(
            Curve(
                f"the {old.processes} old ones, {name}", tuple((s.at, fmean(s.load[: old.processes])) for s in samples)
            )
        )
        after = [s for s in samples if s.at > at]
        curves.append(
            Curve(
                f"the {added} new ones, {name}",
                tuple((s.at, fmean(s.load[old.processes :])) for s in after),
                is_dashed=True,
            )
        )
        last = after[-1].load
        notes.append(
            f"{name}: after {until - at:.0f} s old processes get {fmean(last[: old.processes]):.2f} cores of work,"
            f" new ones {fmean(last[old.processes :]):.2f}"
        )
    return Plot(
        "scaling-growth.svg",
        f"{added} processes join {old.processes} after a minute",
        "seconds",
        "cores of work for a process",
        tuple(curves),
        most=1.0,
        notes=tuple(notes),
    )


def burst(seed: int = 1, *, effort: float = 1.0) -> Plot:
    """A cold function, and more calls at once than it gets instances. Here one call is one call."""
    rate, seconds, until = 2500.0 * effort, 1.0, 45.0
    curves: list[Curve] = []
    notes: list[str] = []
    cases = (
        ("the account's quota is named", 1000, Quota.ACCOUNT),
        ("the function's quota is named", 1000, Quota.FUNCTION),
        ("queue: null", None, Quota.ACCOUNT),
    )
    for name, queue, reason in cases:
        clock = Clock(seed)
        function = LambdaFunction(duration=seconds, scale=1 / effort, cold_start=0.5, reason=reason)
        size = None if queue is None else round(queue * effort)
        fleet = Fleet(clock, partial(_queueing_process, clock, function, size), processes=8, channels=800)
        fleet.load(rate, until=until)
        fleet.watch(1.0, until=until)
        clock.run(until)
        if not curves:
            curves.append(Curve("arrive", tuple((s.at, float(s.arrived)) for s in fleet.samples)))
        curves.append(
            Curve(f"answered, {name}", tuple((s.at, float(s.ended[Outcome.ANSWERED])) for s in fleet.samples))
        )
        refused = fleet.ended[Outcome.REFUSED] / fleet.arrived
        throttled = sum(one.throttled for one in fleet.processes)
        notes.append(
            f"{name}: {refused:.0%} of {fleet.arrived:,} calls are refused, Lambda throttles {throttled:,} times"
        )
    allowed = tuple((at, (1000 + 100 * at) * effort) for at in (0.0, 15.0))
    curves.append(Curve("instances that Lambda allows", allowed, is_dashed=True))
    return Plot(
        "scaling-burst.svg",
        f"{rate:,.0f} calls/s of a second each, to a cold function",
        "seconds",
        "calls a second",
        tuple(curves),
        notes=tuple(notes),
    )


def _queueing_process(
    clock: Clock, function: LambdaFunction, queue: int | None, end: Callable[[FleetCall, Outcome], None]
) -> Process:
    return Process(clock, function, cpu=CPU, end=end, queue=queue)


def restarts(seed: int = 1, *, effort: float = 1.0) -> Plot:
    """A process dies, and later all are replaced one after the other."""
    part = Slice(12, scale=60)
    dies, replaced, begins, pause = 10.0, 13.0, 25.0, 4.0 * effort
    ends = begins + part.processes * pause
    until = ends + 80.0 * effort
    curves: list[Curve] = []
    notes: list[str] = []
    for name, max_age in (("without max_connection_age", None), ("max_connection_age: 1m", 60.0 * effort)):
        fleet = part.fleet(Clock(seed), channels=600, max_age=max_age)
        first = tuple(fleet.processes)
        fleet.clock.at(dies, partial(fleet.kill, first[0]))
        fleet.clock.at(replaced, fleet.add)
        for number, process in enumerate(first[1:]):
            fleet.clock.at(begins + number * pause, partial(fleet.restart, process))
        fleet.load(part.rate, until=until)
        fleet.watch(1.0, until=until)
        fleet.clock.run(until)
        samples = fleet.samples
        curves += [
            Curve(f"the busiest, {name}", tuple((s.at, max(s.load)) for s in samples)),
            Curve(f"the least busy, {name}", tuple((s.at, min(filter(None, s.load))) for s in samples), is_dashed=True),
        ]
        lost = round(sum(s.ended[Outcome.LOST] for s in samples if s.at <= begins) * part.scale)
        rolling = round(sum(s.ended[Outcome.LOST] for s in samples if s.at > begins) * part.scale)
        late = sum(s.ended[Outcome.LATE] for s in samples) / fleet.arrived
        notes.append(
            f"{name}: {lost:,} of {fleet.arrived * part.scale:,.0f} calls are lost with the process that dies,"
            f" {rolling} in the rolling restart; {late:.1%} are late"
        )
    return Plot(
        "scaling-restarts.svg",
        f"{part.processes} processes: one dies at {dies:.0f} s, all are replaced from {begins:.0f} s to {ends:.0f} s",
        "seconds",
        "cores of work for a process",
        tuple(curves),
        limit=(1.0, "all that a process has"),
        notes=tuple(notes),
    )


SCENARIOS: tuple[Callable[..., Plot], ...] = (balance, growth, burst, restarts)
