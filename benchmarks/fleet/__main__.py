"""Draws the plots of docs/scaling.md and prints the facts beside them: `python -m benchmarks.fleet --out docs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fleet.scenarios import SCENARIOS
from benchmarks.fleet.svg import svg


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and draw. The same seed draws the same plots."""
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--out", type=Path, help="the folder for the plots; without it only the facts are printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--effort", type=float, default=1.0, help="less is quicker and rougher")
    parser.add_argument("--only", choices=names, action="append")
    chosen = parser.parse_args(arguments)
    if chosen.effort <= 0:
        parser.error("--effort must be above 0")
    for scenario in SCENARIOS:
        if chosen.only and scenario.__name__ not in chosen.only:
            continue
        plot = scenario(chosen.seed, effort=chosen.effort)
        if chosen.out is not None:
            (chosen.out / plot.file).write_text(svg(plot))
        for note in plot.notes:
            print(f"{scenario.__name__}: {note}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
