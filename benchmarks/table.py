"""Figures of many rounds as medians, ratios and spreads; as text that people read and JSON that programs read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.measures import Figure, Figures

PEER = "Envoy"
"""What ratios are to."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one figure over all rounds."""

    median: float
    low: float
    high: float


class Results:
    """Figures by peer, gathered round by round."""

    def __init__(self, peers: Iterable[str] = ()) -> None:
        """`peers`: in the order of the table."""
        self._found: dict[str, dict[Figure, dict[int, float]]] = {name: {} for name in peers}

    def add(self, peer: str, round_number: int, figures: Figures) -> None:
        mine = self._found.setdefault(peer, {})
        for figure, value in figures.items():
            mine.setdefault(figure, {})[round_number] = value

    @property
    def peers(self) -> list[str]:
        """Those with figures, the one that ratios are to first."""
        return sorted((name for name, mine in self._found.items() if mine), key=lambda name: name != PEER)

    @property
    def figures(self) -> list[Figure]:
        seen: dict[Figure, None] = {}
        for mine in self._found.values():
            seen.update(dict.fromkeys(mine))
        return list(seen)

    def value(self, peer: str, figure: Figure) -> Spread | None:
        return _spread(list(self._found.get(peer, {}).get(figure, {}).values()))

    def ratio(self, peer: str, figure: Figure) -> Spread | None:
        """To the peer's figure of the same round."""
        mine = self._found.get(peer, {}).get(figure, {})
        theirs = self._found.get(PEER, {}).get(figure, {})
        return _spread([value / theirs[number] for number, value in mine.items() if theirs.get(number)])

    def as_json(self) -> dict[str, object]:
        return {
            peer: {
                figure.name: {"unit": figure.unit, "rounds": list(rounds.values())} for figure, rounds in mine.items()
            }
            for peer, mine in self._found.items()
        }


def _spread(values: list[float]) -> Spread | None:
    return Spread(median(values), min(values), max(values)) if values else None


def markdown(results: Results) -> str:
    """The table. Each figure is a median; a ratio is the median of the rounds' ratios, with the lowest and the
    highest.
    """
    others = [name for name in results.peers if name != PEER]
    columns = ["", PEER, *(column for name in others for column in (name, f"to {PEER}"))]
    lines = [_row(columns), _row(["---", *("---:" for _ in columns[1:])])]
    for figure in results.figures:
        cells = [f"{figure.name} ({figure.unit})", _number(results.value(PEER, figure))]
        for name in others:
            cells += [_number(results.value(name, figure)), _ratio(results.ratio(name, figure))]
        lines.append(_row(cells))
    return "\n".join(lines)


def flatness_markdown(results: Results, peer: str) -> str:
    lines = [_row(["the bridge alone", "CPU a call (us)"]), _row(["---", "---:"])]
    for figure in results.figures:
        found = results.value(peer, figure)
        assert found is not None
        lines.append(_row([figure.name, f"{found.median:.1f} ({found.low:.1f} - {found.high:.1f})"]))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.median:,.0f}" if spread.median >= 100 else f"{spread.median:.1f}"


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"**{spread.median:.2f}** ({spread.low:.2f} - {spread.high:.2f})"
