"""Has a call become dearer? The whole path in one process, by two measures.

Steps: the bytecodes of a call, counted. They are the same on every machine, so more than 0.5 % above the baseline is
told.

Loops: CPU time, as a ratio to a loop of plain Python that takes the machine's measure, the least of many short rounds
of either in turn. They see what C code costs, too, but move by a third on a busy machine: only much more than the
baseline's is told.

Both differ between versions of Python, so each has a baseline of its own in baseline.json; one without is measured and
not judged.

    python -m benchmarks.regression             exit code 1 if a call is dearer than the baseline allows
    python -m benchmarks.regression --accept    write what was measured as the new baseline of this version
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from benchmarks.in_process import InProcess, run
from benchmarks.steps import steps

BASELINE = Path(__file__).with_name("baseline.json")
ROUNDS = 60
BATCHES = 20
"""Reads of 16 calls in one round."""
ALLOWED = {"steps": 1.005, "loops": 1.6}
"""Times the baseline, by measure."""
TRIES = 3
"""A call is dearer only if it is so each time."""

CASES = {"same header blocks": False, "header blocks that differ": True}
"""By name: whether each call has its own grpc-timeout and traceparent."""

Costs = dict[str, dict[str, float]]
"""Of a call by case, each by measure."""


def measure(rounds: int = ROUNDS) -> Costs:
    return {
        case: {"steps": steps(varies=varies), "loops": _ratio(varies=varies, rounds=rounds)}
        for case, varies in CASES.items()
    }


def least(one: Costs, other: Costs) -> Costs:
    return {case: {kind: min(cost, other[case][kind]) for kind, cost in costs.items()} for case, costs in one.items()}


def _ratio(*, varies: bool, rounds: int) -> float:
    async def best(bridge: InProcess) -> float:
        await bridge.serve(BATCHES)
        calls, loops = [], []
        for _ in range(rounds):
            loops.append(calibrate())
            calls.append(await bridge.serve(BATCHES))
        return min(calls) / min(loops)

    found: float = run(best, varies=varies)
    return found


class _Pair:
    __slots__ = ("left", "right")

    def __init__(self, left: int, right: bytes) -> None:
        self.left = left
        self.right = right


def calibrate(loops: int = 300) -> float:
    """CPU seconds of one loop of what the path is made of: objects, attributes, dicts, calls, bytes, a hash."""
    began = time.thread_time()
    table: dict[int, _Pair] = {}
    for number in range(loops):
        pair = _Pair(number, b"%d:%b" % (number, b"value"))
        table[number] = pair
        joined = b"".join((pair.right, b'{"name":"', pair.right, b'"}'))
        digest = sha256(joined).hexdigest()
        for letter in digest[:8]:
            if letter in "0123":
                pair.left += _weight(letter, pair)
        table.pop(number, None)
    return (time.thread_time() - began) / loops


def _weight(letter: str, pair: _Pair) -> int:
    return len(letter) + (pair.left & 1)


def verdicts(found: Costs, baseline: Costs) -> list[str]:
    """What is dearer than it may be; empty: nothing."""
    return [
        f"{case}: a call costs {found[case][kind]:.0f} {kind}, {found[case][kind] / before:.3f} times the "
        f"baseline of {before:.0f}"
        for case, costs in baseline.items()
        for kind, before in costs.items()
        if found[case][kind] > before * ALLOWED[kind]
    ]


def no_baseline(version: str, known: Collection[str]) -> str:
    """What to say on a Python that has no row in baseline.json."""
    return (
        f"nothing was judged: benchmarks/baseline.json has no figures for Python {version}, only for"
        f" {', '.join(sorted(known))}; bytecodes differ between versions. To add a row:"
        " python -m benchmarks.regression --accept"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regression")
    parser.add_argument("--accept", action="store_true", help="make this the baseline")
    chosen = parser.parse_args()
    known: dict[str, Costs] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    baseline = known.get(version, {})
    found = measure()
    for _ in range(TRIES - 1):
        if chosen.accept or verdicts(found, baseline):
            found = least(found, measure())
    for case, costs in found.items():
        for kind, cost in costs.items():
            before = baseline.get(case, {}).get(kind)
            beside = "no baseline" if before is None else f"{cost / before:.3f} times the baseline"
            print(f"{case}: {cost:.0f} {kind} a call ({beside})")
    if chosen.accept:
        known[version] = {case: {kind: round(cost, 1) for kind, cost in costs.items()} for case, costs in found.items()}
        BASELINE.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        return 0
    if not baseline:
        print(no_baseline(version, known))
    wrong = verdicts(found, baseline)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
