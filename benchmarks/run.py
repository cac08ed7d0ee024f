"""`make bench`: every measure on the bridge, Envoy and nghttpx in turn, as a table of medians and ratios, with a plot.

All peers of a round run at once, idle but for the one that is loaded, and each measure goes through them in an order of
its own: so that a ratio compares neighbours in time, and nobody always follows the same one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks import answers, caller, machine, measures, peers, plot, stages, table
from benchmarks.measures import PLAIN, SIDE_BY_SIDE, Subject
from benchmarks.peers import Folder, Peer
from benchmarks.table import PEER, Results

RESULTS = Path(__file__).parent / "results"
OTHERS = ("fresh", "flat", "stages")
_FLATNESS_ROUNDS = 3

_NOTES = """\
CPU is user and system time of the proxy alone. nghttpx neither signs nor makes trailers, so it is about the floor
for any proxy. "Header blocks that differ" is our own client. It sends what grpc-go sends: a grpc-timeout and a
traceparent that differ in each call, entered into the header table."""

CHOICES = sorted({measure.name for measure in SIDE_BY_SIDE} | set(OTHERS))


def main() -> None:
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what runs is stopped too
    os.sched_setaffinity(0, {machine.LOAD_CORE})
    envoy = chosen.envoy.resolve()
    bridges = bridges_on(chosen.python)
    began = time.monotonic()
    with TemporaryDirectory(prefix="bridge-bench-") as path:
        folder = Folder(Path(path))
        try:
            with peers.stand_in(folder):
                results = _measure([*bridges, peers.envoy(envoy), peers.nghttpx()], folder, chosen)
                flat = _measure_flatness(bridges[0], folder, chosen)
        except Exception:
            folder.show_logs()
            raise
    report = _report(results, flat, chosen, envoy)
    print(report)
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    if chosen.out is not None:
        _write(chosen.out, report, results, flat)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--only", nargs="+", choices=CHOICES, metavar="MEASURE", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--effort", type=float, default=1.0, help="part of the usual calls (default: 1)")
    parser.add_argument(
        "--python",
        type=Path,
        nargs="+",
        default=[Path(sys.executable)],
        help="interpreters that have the bridge installed, each a peer (default: this one)",
    )
    parser.add_argument("--envoy", type=Path, required=True, help="the binary")
    parser.add_argument("--seed", type=int, default=None, help="of the order")
    parser.add_argument("--out", type=Path, help=f"folder for the results, such as {RESULTS.name}")
    return parser.parse_args()


def bridges_on(interpreters: list[Path]) -> list[Peer]:
    """One on each. Figures are kept by name, so two of one name are refused."""
    bridges = [peers.bridge(each.absolute(), number=n) for n, each in enumerate(interpreters)]
    names = [bridge.name for bridge in bridges]
    if len(set(names)) < len(names):
        sys.exit(f"two of these cannot be told apart: {'; '.join(names)}")
    return bridges


def _is_chosen(name: str, chosen: argparse.Namespace) -> bool:
    return chosen.only is None or name in chosen.only


def _measure(contenders: list[Peer], folder: Folder, chosen: argparse.Namespace) -> Results:
    chance = random.Random(chosen.seed)
    results = Results(peer.name for peer in contenders)
    for number in range(chosen.pairs):
        if _is_chosen("fresh", chosen):
            for peer in _shuffled([peer for peer in contenders if peer.answers_grpc], chance):
                figures = measures.take_fresh(peer, folder, chosen.effort)
                results.add(peer.name, number, figures)
                _tell(number, "fresh", peer)
        selected = [measure for measure in SIDE_BY_SIDE if _is_chosen(measure.name, chosen)]
        if not selected:
            continue
        with peers.serving(folder, *contenders) as running:
            subjects = [
                Subject(peer, process, folder, chosen.effort) for peer, process in zip(contenders, running, strict=True)
            ]
            _check_answers(contenders, thoroughly=number == 0)
            for measure in selected:
                for subject in _shuffled(subjects, chance):
                    if subject.peer.answers_grpc or not measure.needs_grpc:
                        results.add(subject.peer.name, number, measure.take(subject))
                        _tell(number, measure.name, subject.peer)
    return results


def _check_answers(contenders: list[Peer], *, thoroughly: bool) -> None:
    for peer in contenders:
        if peer.answers_grpc:
            caller.wait_for_first_answer(peer.port, PLAIN)
            if thoroughly:
                answers.check(peer)


_Item = TypeVar("_Item")


def _shuffled(items: list[_Item], chance: random.Random) -> list[_Item]:
    return chance.sample(items, len(items))


def _tell(number: int, measure: str, peer: Peer) -> None:
    print(f"round {number + 1}: {measure}, {peer.name}", file=sys.stderr)


def _measure_flatness(bridge: Peer, folder: Folder, chosen: argparse.Namespace) -> Results:
    results = Results()
    if not _is_chosen("flat", chosen):
        return results
    many = replace(bridge, command=_with_config(bridge, folder.many_services(1000)))
    for number in range(min(chosen.pairs, _FLATNESS_ROUNDS)):
        results.add(bridge.name, number, measures.take_flatness(bridge, many, folder, chosen.effort))
        _tell(number, "flat", bridge)
    return results


def _with_config(bridge: Peer, config: Path) -> tuple[str, ...]:
    return tuple(str(config) if part == "bridge.yaml" else part for part in bridge.command)


def _report(results: Results, flat: Results, chosen: argparse.Namespace, envoy: Path) -> str:
    lines = ["# The bridge beside Envoy", "", *(f"- {line}" for line in machine.environment(envoy))]
    effort = "" if chosen.effort == 1 else f", {chosen.effort:g} of the usual calls"
    lines += [f"- rounds: {chosen.pairs}{effort}; medians; ratios within a round, lowest and highest in brackets", ""]
    if results.figures:
        lines += [table.markdown(results), "", _NOTES, ""]
    for peer in flat.peers:
        lines += [table.flatness_markdown(flat, peer), ""]
    if _is_chosen("stages", chosen):
        same, varied = (stages.profile(varies=varies) for varies in (False, True))
        lines += ["In one process, without sockets:", "", stages.table(same, varied), ""]
    return "\n".join(lines)


def _write(out: Path, report: str, results: Results, flat: Results) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.md").write_text(report)
    raw = {"beside": results.as_json(), "flatness": flat.as_json()}
    (out / "results.json").write_text(json.dumps(raw, indent=1) + "\n")
    title = f"The bridge beside {PEER}: the same job, ratio of the two"
    (out / "results.svg").write_text(plot.svg(results, title=title))


if __name__ == "__main__":
    main()
