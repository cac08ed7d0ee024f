"""Plots as SVG, written by hand, for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import ceil, floor, log10

from benchmarks.fleet.scenarios import Curve, Plot

WIDTH = 760
_LEFT, _RIGHT, _TOP, _HEIGHT, _FOOT, _ROW = 62, 16, 40, 260, 46, 18
_STYLE = """
svg { color-scheme: light dark }
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.page { fill: #ffffff }
.grid { stroke: #d8dee4 }
.limit { stroke: #cf222e; stroke-dasharray: 2 3 }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round }
.dashed { stroke-dasharray: 6 4 }
.c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .c2 { stroke: #1a7f37 } .c3 { stroke: #8250df } .c4 { stroke: #57606a }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.page { fill: #0d1117 }
.grid { stroke: #30363d }
.limit { stroke: #ff7b72 }
.c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .c2 { stroke: #56d364 } .c3 { stroke: #bc8cff } .c4 { stroke: #8b949e }
}
""".strip()


def svg(plot: Plot) -> str:
    """Return the picture. It brings its own background, so that it can be read on any page."""
    frame = _Frame(plot)
    bottom = _TOP + _HEIGHT
    height = bottom + _FOOT + len(plot.curves) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">',
        f"<title>{escape(plot.title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>',
        _text(_LEFT, 24, plot.title, kind="title"),
        *frame.scales(),
        *(_curve(number, curve, frame) for number, curve in enumerate(plot.curves)),
        *_legend(plot.curves, bottom + _FOOT + 8),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """Where a value stands in the picture."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        across = [x for curve in plot.curves for x, _ in curve.points]
        up = [y for curve in plot.curves for _, y in curve.points] + [plot.limit[0] if plot.limit else 0.0]
        self._least, self._farthest = min(across), max(across)
        self.highest = plot.most or max(up) * 1.05

    def x(self, value: float) -> float:
        part = (value - self._least) / (self._farthest - self._least)
        return _LEFT + part * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _TOP + _HEIGHT * (1 - min(value, self.highest) / self.highest)

    def scales(self) -> Iterator[str]:
        bottom = _TOP + _HEIGHT
        for value in _ticks(0.0, self.highest):
            y = self.y(value)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
            yield _text(_LEFT - 8, y + 4, f"{value:,g}", anchor="end")
        for value in _ticks(self._least, self._farthest):
            yield _text(self.x(value), bottom + 18, f"{value:,g}", anchor="middle")
        if self._plot.limit is not None:
            height, name = self._plot.limit
            yield f'<path class="limit" d="M{_LEFT} {self.y(height):.1f}H{WIDTH - _RIGHT}"/>'
            yield _text(_LEFT + 6, self.y(height) - 5, name)
        middle = _TOP + _HEIGHT / 2
        yield _text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 36, self._plot.across, anchor="middle")
        yield (
            f'<text x="16" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 16 {middle:.0f})">'
            f"{escape(self._plot.up)}</text>"
        )


def _ticks(least: float, most: float) -> Iterator[float]:
    """Yield four to ten round values."""
    rough = (most - least) / 5
    power = 10.0 ** floor(log10(rough))
    step = min((power * one for one in (1, 2, 5, 10)), key=lambda one: abs(one - rough))
    for number in range(ceil(least / step - 1e-9), floor(most / step + 1e-9) + 1):
        yield round(number * step, 10)


def _curve(number: int, curve: Curve, frame: _Frame) -> str:
    path = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in curve.points)
    return f'<path class="{_kind(number, curve)}" d="M{path}"/>'


def _kind(number: int, curve: Curve) -> str:
    return f"curve c{number % 5}{' dashed' if curve.is_dashed else ''}"


def _legend(curves: tuple[Curve, ...], top: float) -> Iterator[str]:
    for number, curve in enumerate(curves):
        y = top + number * _ROW
        yield f'<path class="{_kind(number, curve)}" d="M{_LEFT} {y - 4:.0f}h28"/>'
        yield _text(_LEFT + 36, y, curve.name)


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    words = f' class="{kind}"' if kind else ""
    return f'<text{words} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
