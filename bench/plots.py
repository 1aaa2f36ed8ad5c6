"""Plots as SVG, by hand: bars on a logarithmic scale, and lines over a logarithmic x. A few KB each."""

import math
from collections.abc import Sequence
from html import escape

from bench.stats import Summary, short

_WIDTH, _LEFT, _ROW, _TOP = 760, 210, 24, 44
_OURS, _THEIRS, _RANGE = "#1f77b4", "#9aa5b1", "#33414f"
_STYLE = (
    "<style>text{font:13px sans-serif;fill:#24292f}.t{font-weight:bold}"
    ".s{font-size:11px;fill:#57606a}</style>"
)


def bars(title: str, unit: str, rows: Sequence[tuple[str, Summary]], ours: Sequence[str]) -> str:
    """A bar for each contestant, its range marked; the longer, the more. Logarithmic, and says so."""
    height = _TOP + _ROW * len(rows) + 14
    low = 10 ** math.floor(math.log10(max(1e-9, min(summary.least for _, summary in rows)) * 0.999))
    high = max(summary.most for _, summary in rows)
    room = _WIDTH - _LEFT - 90

    def x(value: float) -> float:
        return _LEFT + room * math.log(max(value, low) / low) / math.log(max(high / low, 1.001))

    parts = [
        _text(8, 18, title, "t"),
        _text(8, 35, f"{unit}, median and range, logarithmic from {short(low)}", "s"),
    ]
    for number, (name, summary) in enumerate(rows):
        y = _TOP + _ROW * number
        fill = f'fill="{_OURS if name in ours else _THEIRS}"'
        parts += [
            _text(_LEFT - 8, y + 15, name, anchor="end"),
            f'<rect x="{_LEFT}" y="{y + 3}" width="{x(summary.median) - _LEFT:.1f}" height="15" {fill}/>',
            _line(x(summary.least), y + 10.5, x(summary.most), y + 10.5),
            _text(x(summary.most) + 6, y + 15, short(summary.median)),
        ]
    return _svg(height, parts)


def curve(title: str, unit: str, points: Sequence[tuple[float, Summary]], x_title: str) -> str:
    """One line through medians, with ranges; both axes logarithmic."""
    height, left, bottom = 300, 70, 250
    across = _span([x for x, _ in points])
    up = _span([value for _, summary in points for value in (summary.least, summary.most)])

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (_WIDTH - left - 40) * _share(x, across), bottom - (bottom - _TOP - 20) * _share(y, up)

    parts = [_text(8, 18, title, "t"), _text(8, 35, f"{unit}, median and range, logarithmic", "s")]
    corners = [place(x, summary.median) for x, summary in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_OURS}" stroke-width="2"/>')
    for (value, summary), (x, y) in zip(points, corners, strict=True):
        parts += [
            _line(x, place(value, summary.least)[1], x, place(value, summary.most)[1]),
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_OURS}"/>',
            _text(x, y - 10, short(summary.median), anchor="middle"),
            _text(x, bottom + 20, f"{value:,.0f}", "s", "middle"),
        ]
    return _svg(height, [*parts, _text(_WIDTH / 2, bottom + 42, x_title, "s", "middle")])


def _span(values: Sequence[float]) -> tuple[float, float]:
    return max(1e-9, min(values)), max(1e-9, *values)


def _share(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return 0.5 if high <= low else math.log(max(value, low) / low) / math.log(high / low)


def _svg(height: int, parts: Sequence[str]) -> str:
    box = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    ground = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, _STYLE, ground, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style} text-anchor="{anchor}">{escape(said)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_RANGE}" stroke-width="2"/>'
    )
