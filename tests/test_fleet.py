"""The simulated fleet of docs/scaling.md: no call is lost or counted twice, and it agrees with queueing theory."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, variance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fleet.__main__ import main
from benchmarks.fleet.clock import Clock
from benchmarks.fleet.lambda_function import LambdaFunction
from benchmarks.fleet.process import FleetCall, Outcome, Process
from benchmarks.fleet.scenarios import CPU, Curve, Plot, Slice, balance, burst, growth, restarts
from benchmarks.fleet.simulation import EndedTwice, Fleet
from benchmarks.fleet.svg import svg
from benchmarks.sizing import Measured
from bridge.rpc.errors import Quota

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "scaling.md"


@dataclass
class Small:
    """A fleet in front of one function, for tests."""

    fleet: Fleet
    function: LambdaFunction

    @property
    def clock(self) -> Clock:
        return self.fleet.clock


def small(
    seed: int = 1,
    *,
    processes: int = 4,
    channels: int = 20,
    cpu: float = 0.001,
    duration: float = 0.05,
    instances: int = 10**6,
    scale: float = 100.0,
    queue: int | None = 50,
    deadline: float = 2.0,
    max_age: float | None = None,
    is_round_robin: bool = False,
) -> Small:
    clock = Clock(seed)
    function = LambdaFunction(duration=duration, scale=scale, reason=Quota.FUNCTION)
    function.instances = instances
    fleet = Fleet(
        clock,
        lambda end: Process(clock, function, cpu=cpu, end=end, queue=queue, wait=1.0, deadline=deadline),
        processes=processes,
        channels=channels,
        max_age=max_age,
        is_round_robin=is_round_robin,
    )
    return Small(fleet, function)


# -- nothing is lost, nothing is twice ---------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([50.0, 400.0, 1500.0]),
    instances=st.sampled_from([0, 3, 10**6]),
    queue=st.sampled_from([None, 5, 500]),
    deadline=st.sampled_from([0.02, 2.0]),
    max_age=st.sampled_from([None, 0.5]),
    is_round_robin=st.booleans(),
    deaths=st.lists(st.floats(0.1, 2.9), max_size=4),
    replaced=st.lists(st.floats(0.1, 2.9), max_size=3),
)
def test_every_call_ends_once(
    *,
    seed: int,
    rate: float,
    instances: int,
    queue: int | None,
    deadline: float,
    max_age: float | None,
    is_round_robin: bool,
    deaths: list[float],
    replaced: list[float],
) -> None:
    """At each sample all calls that came have ended, or are in a process. At the end nothing is left, not even in the
    function, whatever died, drained or throttled on the way.
    """
    world = small(
        seed, instances=instances, queue=queue, deadline=deadline, max_age=max_age, is_round_robin=is_round_robin
    )
    fleet = world.fleet
    for number, when in enumerate(deaths):
        world.clock.at(when, partial(fleet.kill, fleet.processes[number % 4]))
    for when in replaced:
        world.clock.at(when, lambda: fleet.restart(next((one for one in fleet.open_processes()), fleet.processes[0])))
    fleet.load(rate, until=3.0)
    fleet.watch(0.25, until=10.0)
    for number in range(40):
        world.clock.run(number * 0.25)
        assert fleet.arrived == fleet.ended.total() + fleet.in_progress
        assert world.function.running <= world.function.instances
    world.clock.run(30.0)

    assert (fleet.arrived, 0, 0) == (fleet.ended.total(), fleet.in_progress, world.function.running)
    assert fleet.arrived == sum(sample.arrived for sample in fleet.samples)
    assert fleet.ended == sum((sample.ended for sample in fleet.samples), Counter[Outcome]())
    assert all(one.calls == one.waiting == 0 for one in fleet.processes)


def test_a_call_that_ends_twice_is_an_error() -> None:
    """The account does not only add up: it looks at each call."""
    world = small()
    call = FleetCall(0, 0.0)
    process = world.fleet.processes[0]
    process.take(call)
    process.die()

    assert Outcome.LOST is call.outcome
    with pytest.raises(EndedTwice, match="LOST, then ANSWERED"):
        world.fleet._end(call, Outcome.ANSWERED)


@pytest.mark.parametrize("scenario", [balance, burst])
def test_the_same_seed_gives_the_same_plot(scenario: Callable[..., Plot]) -> None:
    one, other, third = (scenario(seed, effort=0.05) for seed in (1, 1, 2))

    assert one == other
    assert one != third


# -- theory ------------------------------------------------------------------------------------------------------------


def test_calls_come_as_a_poisson_process() -> None:
    """The variance of the calls in a time is their mean."""
    world = small(cpu=1e-9)
    world.fleet.load(200.0, until=200.0)
    world.fleet.watch(1.0, until=200.0)
    world.clock.run(200.0)
    counts = [sample.arrived for sample in world.fleet.samples]

    assert 200 == pytest.approx(fmean(counts), rel=0.02)
    assert 200 == pytest.approx(variance(counts), rel=0.3)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waits_for_the_core_are_those_of_an_md1_queue(load: float) -> None:
    """Pollaczek and Khinchine: load / (2 (1 - load)) times the service time."""
    world = small(processes=1, cpu=0.01)
    world.fleet.load(load / 0.01, until=1500.0)
    world.clock.run(1600.0)

    assert load / (2 * (1 - load)) * 0.01 == pytest.approx(
        world.fleet.processes[0].cpu_wait / world.fleet.arrived, rel=0.1
    )


def test_calls_in_the_function_follow_littles_law() -> None:
    world = small(cpu=1e-9, duration=0.2)
    world.fleet.load(500.0, until=100.0)
    seen: list[int] = []
    for second in range(1, 100):
        world.clock.at(second, lambda: seen.append(world.function.running))
    world.clock.run(100.0)

    assert 100 == pytest.approx(fmean(seen), rel=0.05)


# -- Lambda ------------------------------------------------------------------------------------------------------------


def test_a_function_grows_as_fast_as_lambda_lets_it() -> None:
    """1,000 instances at once, then 100 a second, and no more for having waited."""
    function = LambdaFunction(duration=1.0, cold_start=0.5)

    def started(now: float) -> int:
        return sum(not isinstance(function.start(now), Quota) for _ in range(5000))

    assert [1000, 0, 100, 1000] == [started(now) for now in (100.0, 100.0, 101.0, 1000.0)]
    function.end()
    assert 1.0 == function.start(1000.0)  # an instance that has served before is warm
    assert Quota.ACCOUNT == function.start(1000.0)


def test_throttled_calls_wait_and_are_answered_later() -> None:
    """20 instances at first, and 2 more each second, for 40 calls at once: those above wait in the bridge."""
    world = small(instances=0, scale=50.0, queue=1000, duration=1.0, processes=1)
    world.fleet.load(15.0, until=10.0)
    world.clock.run(30.0)

    assert {Outcome.ANSWERED: world.fleet.arrived} == dict(world.fleet.ended)
    world = small(instances=0, scale=50.0, queue=1000, duration=1.0, processes=1)
    world.fleet.load(40.0, until=20.0)
    world.clock.run(60.0)
    assert world.fleet.processes[0].throttled
    assert world.fleet.ended[Outcome.REFUSED]
    assert world.fleet.arrived / 2 < world.fleet.ended[Outcome.ANSWERED]


# -- the fleet ---------------------------------------------------------------------------------------------------------


def test_a_dead_process_loses_what_was_in_it_and_nothing_more() -> None:
    world = small(processes=4, duration=0.5)
    fleet = world.fleet
    fleet.load(200.0, until=5.0)
    world.clock.run(2.0)
    inside = fleet.processes[0].calls
    fleet.kill(fleet.processes[0])
    world.clock.run(20.0)

    assert inside > 0
    assert {Outcome.LOST: inside, Outcome.ANSWERED: fleet.arrived - inside} == dict(fleet.ended)


def test_a_rolling_restart_loses_nothing() -> None:
    world = small(processes=4, duration=0.5)
    fleet = world.fleet
    for number, process in enumerate(tuple(fleet.processes)):
        world.clock.at(1.0 + number, partial(fleet.restart, process))
    fleet.load(200.0, until=8.0)
    world.clock.run(20.0)

    assert {Outcome.ANSWERED: fleet.arrived} == dict(fleet.ended)
    assert [False] * 4 + [True] * 4 == [one.is_alive for one in fleet.processes]


def test_a_channel_goes_to_a_new_process_only_when_its_connection_ends() -> None:
    """Which max_connection_age brings about."""
    new_loads = []
    for max_age in (None, 1.0):
        world = small(processes=2, channels=200, max_age=max_age)
        new = world.fleet.add()
        world.fleet.load(300.0, until=10.0)
        world.clock.run(12.0)
        new_loads.append(new.cpu_used / sum(one.cpu_used for one in world.fleet.processes))

    assert 0 == new_loads[0]
    assert 1 / 3 == pytest.approx(new_loads[1], abs=0.08)


def test_round_robin_loads_all_processes_alike() -> None:
    """One connection loads one process."""
    shares = []
    for is_round_robin in (False, True):
        world = small(processes=4, channels=1, is_round_robin=is_round_robin)
        world.fleet.load(400.0, until=10.0)
        world.clock.run(12.0)
        shares.append(
            max(one.cpu_used for one in world.fleet.processes) / sum(o.cpu_used for o in world.fleet.processes)
        )

    assert 1.0 == shares[0]
    assert 0.25 == pytest.approx(shares[1], abs=0.01)


def test_the_scenarios_load_processes_as_planned() -> None:
    """60 % of a core, whatever a call stands for."""
    for scale in (50.0, 500.0):
        part = Slice(10, scale)
        fleet = part.fleet(Clock(1), channels=10, is_round_robin=True)
        fleet.load(part.rate, until=50.0)
        fleet.watch(50.0, until=50.0)
        fleet.clock.run(50.0)

        assert 0.6 == pytest.approx(fmean(fleet.samples[0].load), rel=0.05)


# -- what is on the page -----------------------------------------------------------------------------------------------


def highest(curve: Curve) -> float:
    return max(y for _, y in curve.points)


def test_the_page_tells_what_the_scenarios_show() -> None:
    """The sentences of docs/scaling.md, at a smaller size."""
    few, many, spread = balance(effort=0.2).curves
    assert highest(few) > 1.5
    assert 1 > highest(many) > highest(spread)
    stay, idle, old, new = growth(effort=0.5).curves
    assert (0.0, True) == (highest(idle), stay.points[-1][1] > 0.7)
    assert old.points[-1][1] == pytest.approx(new.points[-1][1], abs=0.12)
    assert "0 in the rolling restart" in restarts(effort=0.2).notes[0]
    _, account, function, unqueued, _ = burst(effort=0.1).curves
    answered = [sum(y for _, y in curve.points) for curve in (account, function, unqueued)]
    assert min(answered) > 0.9 * max(answered)  # the queue follows the function as it grows


def test_the_simulation_has_the_benchmarks_figure() -> None:
    """If this fails, put the new figure into benchmarks/fleet/scenarios.py and draw the plots anew."""
    assert Measured.read().cpu == pytest.approx(CPU, rel=0.03)


@pytest.mark.slow
def test_the_page_has_the_plots_and_facts_of_the_simulation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails after a change of bridge/queueing: `python -m benchmarks.fleet --out docs`, and read the page."""
    assert 0 == main(["--out", str(tmp_path)])
    page = " ".join(PAGE.read_text().split())
    for path in sorted(tmp_path.iterdir()):
        assert path.read_text() == (DOCS / path.name).read_text(), path.name
        assert f"]({path.name})" in page
    assert 4 == len(list(tmp_path.iterdir()))
    for line in capsys.readouterr().out.splitlines():
        assert all(figure in page for figure in re.findall(r"\d[\d,]*(?:\.\d+)?%?", line.partition(":")[2])), line


def test_a_plot_is_sound_svg_for_light_and_dark_pages() -> None:
    curves = (Curve("first", ((0, 1), (5, 4))), Curve("second", ((0, 0), (5, 9)), is_dashed=True))
    plot = Plot("x.svg", "a < b & c", "x", "y", curves, limit=(5.0, "limit"), most=6.0)
    root = ET.fromstring(svg(plot))
    space = "{http://www.w3.org/2000/svg}"
    paths = [one for one in root.iter(f"{space}path") if "curve" in one.get("class", "") and "L" in one.get("d", "")]

    assert "a < b & c" == root.findtext(f"{space}title")
    assert {"first", "second", "limit", "x", "y"} <= {one.text for one in root.iter(f"{space}text")}
    assert ["curve c0", "curve c1 dashed"] == [one.get("class") for one in paths]
    assert "prefers-color-scheme: dark" in (root.findtext(f"{space}style") or "")
    heights = [[float(point.split()[1]) for point in one.get("d", "")[1:].split("L")] for one in paths]
    assert all(40 <= y <= 300 for each in heights for y in each)  # what is too high ends at the edge
    assert all(one > other for each in heights for one, other in pairwise(each))


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--effort", "0"])
