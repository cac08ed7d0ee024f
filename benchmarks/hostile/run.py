"""`make hostile`: every attack of this folder on the bridge and on Envoy in turn, as a table for docs/hostile.md.

What counts is how long a well-behaved neighbour waits, on a connection of its own, while the attack goes on, and what
memory the proxy takes at most. Each trial has a fresh proxy. Bridge and Envoy are attacked right after each other, so
that a row compares neighbours in time.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks import caller, hostile, machine, peers
from benchmarks.hostile.trial import Outcome, Victim, attack
from benchmarks.peers import Folder, Peer

PATH = "/bench.Plain/Say"
BUFFERS = 64 << 20
"""What the bridge is told it may hold (bytes), so that memory can be held against it."""
MAX_P99 = 0.050
"""Seconds. A neighbour's p99 is to stay below this or below four times Envoy's, and never above MAX_EVER."""
TIMES_ENVOY = 4
MAX_EVER = 0.100


@dataclass(frozen=True, slots=True)
class Attack:
    """A module of this folder."""

    name: str
    what: str
    """The first sentence of its docstring."""
    config: Mapping[str, Any]
    """What the bridge's configuration needs besides."""
    is_for_envoy: bool = True
    """Whether it means anything to Envoy."""


@dataclass(frozen=True, slots=True)
class Row:
    """The outcomes of one attack: for each proxy, one for each round."""

    attack: Attack | None
    outcomes: Mapping[str, list[Outcome]]

    @property
    def title(self) -> str:
        return "nobody attacks" if self.attack is None else self.attack.what


def attacks() -> list[Attack]:
    """All modules that have an attack."""
    modules = [
        import_module(f"{hostile.__name__}.{found.name}")
        for found in pkgutil.iter_modules(hostile.__path__)
        if found.name not in ("run", "trial", "attacker", "neighbour", "wire")
    ]
    return [
        Attack(
            module.__name__.rpartition(".")[2],
            (module.__doc__ or "").partition(".\n")[0].replace("\n", " "),
            yaml.safe_load(module.CONFIG or "{}") or {},
            getattr(module, "IS_FOR_ENVOY", True),
        )
        for module in modules
        if hasattr(module, "attack")
    ]


def main() -> None:
    """Prints the table, and writes the page if told where."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what runs is stopped too
    os.sched_setaffinity(0, {machine.LOAD_CORE})
    selected: list[Attack | None] = [each for each in attacks() if not chosen.only or each.name in chosen.only]
    rows = []
    with TemporaryDirectory(prefix="bridge-hostile-") as path:
        folder = Folder(Path(path))
        try:
            with peers.stand_in(folder):
                for number, each in enumerate([None, *selected]):
                    name = "nobody" if each is None else each.name
                    print(f"{number} of {len(selected)}: {name} ...", file=sys.stderr, flush=True)
                    rows.append(_row(each, folder, chosen))
        except Exception:
            folder.show_logs()
            raise
    page = _page(rows, chosen)
    print(page)
    if chosen.out is not None:
        chosen.out.write_text(page)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack (default: 8)")
    parser.add_argument("--rounds", type=int, default=1, help="of each; medians are told (default: 1)")
    parser.add_argument("--only", nargs="+", metavar="ATTACK")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="an interpreter that has the bridge",
    )
    parser.add_argument("--envoy", type=Path, required=True, help="the binary")
    parser.add_argument("--out", type=Path, help="the page")
    return parser.parse_args()


def _row(each: Attack | None, folder: Folder, chosen: argparse.Namespace) -> Row:
    outcomes: dict[str, list[Outcome]] = {}
    for _ in range(chosen.rounds):
        for peer in _victims(each, folder, chosen):
            with peers.serving(folder, peer) as (running,):
                authority = folder.path / "cert.pem" if "TLS" in peer.name else None
                if authority is None:
                    caller.wait_for_first_answer(peer.port, PATH)
                else:
                    time.sleep(2)
                victim = Victim(peer.name, running.pid, f"localhost:{peer.port}", PATH, authority)
                name = None if each is None else each.name
                outcomes.setdefault(peer.name, []).append(attack(victim, name, chosen.seconds, core=machine.LOAD_CORE))
    return Row(each, outcomes)


def _victims(each: Attack | None, folder: Folder, chosen: argparse.Namespace) -> Iterator[Peer]:
    extra = {} if each is None else each.config
    yield _bridge("bridge", 7110, folder, extra, chosen.python, tls=False)
    yield _bridge("bridge, TLS", 7111, folder, extra, chosen.python, tls=True)
    if each is None or each.is_for_envoy:
        yield peers.envoy(chosen.envoy.resolve())


def _bridge(name: str, port: int, folder: Folder, extra: Mapping[str, Any], python: Path, *, tls: bool) -> Peer:
    usual = peers.bridge(python.absolute())
    listen: dict[str, Any] = {"address": f"127.0.0.1:{port}"}
    if tls:
        listen["tls"] = {"cert": "cert.pem", "key": "key.pem"}
    config = yaml.safe_load((folder.path / "bridge.yaml").read_text())
    config = merged(config, extra) | {
        "listen": [listen],
        "admin": f"127.0.0.1:{port + 50}",
        "buffers": f"{BUFFERS >> 20}MiB",
    }
    (folder.path / f"hostile-{port}.yaml").write_text(yaml.safe_dump(config))
    command = (str(python.absolute()), "-m", "bridge", "serve", "-c", f"hostile-{port}.yaml")
    return Peer(name, port, command, usual.environ)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within mappings are merged, too."""
    both = {key: merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(one[key], dict)}
    return {**one, **other, **both}


# -- the page ----------------------------------------------------------------------------------------------------------

_INTRODUCTION = """# Under attack

What one client can do to the others. A well-behaved neighbour makes {pace:g} small calls a second on its own
connection. One attacker, and for some attacks fifty of its connections, sends what the row says for {seconds:g}
seconds. The table shows how long the neighbour waits for its answers, the most memory that the proxy takes, and the CPU
time that a megabyte of the attack costs it. `buffers` is {buffers} MiB. Envoy has the same job and is attacked in the
same minutes. Where an attack means nothing to Envoy, its cells are empty.

The goal: the neighbour's p99 is below {p99:g} ms or below {times} times Envoy's, and never above {ever:g} ms. Rows that
miss it are marked with **!**.

`make hostile` makes this page anew. The attacks are in [benchmarks/hostile](../benchmarks/hostile), a file each.
"""


def _page(rows: list[Row], chosen: argparse.Namespace) -> str:
    from benchmarks.hostile.neighbour import PACE

    lines = [
        _INTRODUCTION.format(
            pace=PACE,
            seconds=chosen.seconds,
            buffers=BUFFERS >> 20,
            p99=MAX_P99 * 1e3,
            times=TIMES_ENVOY,
            ever=MAX_EVER * 1e3,
        ),
        *(f"- {line}" for line in machine.environment(chosen.envoy)),
        f"- {machine.python_of(chosen.python)}",
        f"- rounds: {chosen.rounds}; medians",
        "",
        "| What is sent | Proxy | p50, ms | p99, ms | failed | memory before, MiB | at most | CPU, s per MB sent |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        for number, (name, outcomes) in enumerate(row.outcomes.items()):
            p50, p99, *others = _figures(outcomes)
            mark = "" if is_good(row, name) else " **!**"
            title = row.title if number == 0 else ""
            lines.append(f"| {' | '.join([title, name, p50, p99 + mark, *others])} |")
    return "\n".join([*lines, ""])


def _figures(outcomes: list[Outcome]) -> Iterator[str]:
    yield f"{median(each.waits.percentile(0.5) for each in outcomes) * 1e3:.1f}"
    yield f"{median(each.waits.percentile(0.99) for each in outcomes) * 1e3:.1f}"
    yield f"{median(each.waits.failed for each in outcomes):g}"
    yield f"{median(each.memory_before for each in outcomes) / (1 << 20):.0f}"
    yield f"{median(each.peak_memory for each in outcomes) / (1 << 20):.0f}"
    cost = median(each.cpu_per_megabyte for each in outcomes)
    yield "" if cost == float("inf") else f"{cost:.3g}"


def is_good(row: Row, name: str) -> bool:
    """Whether the neighbour of this proxy waited no longer than the goal says."""
    waited = _p99(row, name)
    return waited is None or waited <= min(MAX_EVER, max(MAX_P99, TIMES_ENVOY * (_p99(row, peers.ENVOY) or 0.0)))


def _p99(row: Row, name: str) -> float | None:
    outcomes = row.outcomes.get(name)
    return median(each.waits.percentile(0.99) for each in outcomes) if outcomes else None


if __name__ == "__main__":
    main()
