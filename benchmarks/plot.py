"""The ratios as a picture: a bar for each figure and peer, a line at 1 where both are the same. SVG, written by
hand.
"""

from __future__ import annotations

from html import escape

from benchmarks.measures import Figure
from benchmarks.table import PEER, Results, Spread

_LABELS, _WIDTH, _BAR, _GAP, _LEGEND_ROW = 330, 460, 14, 12, 18
_MOST = 1.5
"""Ratios above it run out of the picture; the number says how far."""
_COLOURS = ("#2563eb", "#059669", "#9ca3af", "#d97706", "#7c3aed", "#0891b2")
_FONT = 'font-family="system-ui, sans-serif"'


def svg(results: Results, *, title: str) -> str:
    """Figures where less is better; where more is better the ratio is turned over, so that short bars are
    always good.
    """
    peers = [name for name in results.peers if name != PEER]
    figures = [figure for figure in results.figures if any(results.ratio(name, figure) is not None for name in peers)]
    top = 46 + len(peers) * _LEGEND_ROW
    height = top + len(figures) * (len(peers) * _BAR + _GAP) + 30
    parts = [_text(12, 24, title, size=15, weight="bold"), *_legend(peers)]
    y = top
    for figure in figures:
        parts.append(_text(_LABELS - 8, y + len(peers) * _BAR / 2 + 4, _label(figure), anchor="end"))
        for number, name in enumerate(peers):
            ratio = results.ratio(name, figure)
            if ratio is not None:
                parts += _bar(y + number * _BAR, _turned(ratio, figure), _colour(number))
        y += len(peers) * _BAR + _GAP
    parts += _scale(top, height)
    whole = _LABELS + _WIDTH + 70
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{height}" viewBox="0 0 {whole} {height}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _label(figure: Figure) -> str:
    return f"{figure.name}, inverse" if figure.more_is_better else figure.name


def _turned(ratio: Spread, figure: Figure) -> Spread:
    if not figure.more_is_better:
        return ratio
    return Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _legend(peers: list[str]) -> list[str]:
    """A row each: names of interpreters are long."""
    parts = []
    for number, name in enumerate(peers):
        y = 36 + number * _LEGEND_ROW
        parts += [_rect(12, y, 10, 10, _colour(number)), _text(27, y + 9, name)]
    return parts


def _bar(y: float, ratio: Spread, colour: str) -> list[str]:
    """The median as a bar, the rounds' lowest and highest as a line through its end."""
    end, low, high = (_x(value) for value in (ratio.median, ratio.low, ratio.high))
    middle = y + _BAR / 2 - 1
    return [
        _rect(_LABELS, y, end - _LABELS, _BAR - 2, colour),
        f'<line x1="{low:.1f}" y1="{middle:.1f}" x2="{high:.1f}" y2="{middle:.1f}" stroke="#111827" stroke-width="1"/>',
        _text(max(end, high) + 5, y + _BAR - 4, f"{ratio.median:.2f}", size=11),
    ]


def _scale(top: float, height: float) -> list[str]:
    parts = []
    for tick in (0.0, 0.5, 1.0, 1.5):
        x, stroke = _x(tick), "#dc2626" if tick == 1 else "#d1d5db"
        parts.append(f'<line x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{height - 24}" stroke="{stroke}"/>')
        label = f"{PEER} = 1" if tick == 1 else f"{tick:g}"
        parts.append(_text(x, height - 8, label, size=11, anchor="middle"))
    return parts


def _x(ratio: float) -> float:
    return _LABELS + min(ratio, _MOST) / _MOST * _WIDTH


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} font-size="{size}" font-weight="{weight}"'
        f' text-anchor="{anchor}" fill="#111827">{escape(text)}</text>'
    )
