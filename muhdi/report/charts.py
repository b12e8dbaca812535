"""Line charts as SVG text, which takes its colours from the page that it stands in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]
POINTS = 400
"""More points than this of one line are averaged; the picture is not wider."""


@dataclass(frozen=True)
class Line:
    """A named line; ``spread`` holds a deviation for each point, drawn as a whisker."""

    name: str
    points: Sequence[Point]
    spread: Sequence[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        title: read out in place of the picture.
        lines: numbered in the order of their colours.
        ticks: places on the x axis and what is written there.
        borders: x of vertical lines, where stages end.
        dots: mark every point.
        zero: whether the y axis begins at 0.
        keyed: the page has a key to the colours; else names stand at the ends of the lines.
        size: width and height in units of the drawing.
    """

    title: str
    lines: Sequence[Line]
    ticks: Sequence[tuple[float, str]]
    borders: Sequence[float] = ()
    dots: bool = False
    zero: bool = False
    keyed: bool = False
    size: tuple[int, int] = (640, 260)

    def svg(self) -> str:
        """The drawing."""
        return _Drawing(self).text()


class _Drawing:
    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.width, self.height = chart.size
        names = [line.name for line in chart.lines]
        self.labelled = len(names) > 1 and not chart.keyed
        self.left, self.top, self.bottom = 44, 12, 24
        self.right = 22 + (7 * max(map(len, names)) if self.labelled else 0)
        xs = [x for line in chart.lines for x, _ in line.points]
        ys = [y for line in chart.lines for _, y in line.points]
        for line in chart.lines:
            both = zip(line.points, line.spread, strict=False)
            ys += [y + sign * (s or 0) for (_, y), s in both for sign in (-1, 1)]
        self.x0, self.x1 = min(xs), max(max(xs), min(xs) + 1)
        self.steps = nice_ticks(min(0.0, *ys) if chart.zero else min(ys), max(ys))
        self.y0, self.y1 = self.steps[0], self.steps[-1]

    def x(self, value: float) -> float:
        return self.left + (value - self.x0) / (self.x1 - self.x0) * (
            self.width - self.left - self.right
        )

    def y(self, value: float) -> float:
        share = (value - self.y0) / (self.y1 - self.y0)
        return self.height - self.bottom - share * (self.height - self.bottom - self.top)

    def text(self) -> str:
        parts = [
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img"'
            f' aria-label="{escape(self.chart.title)}" class="chart">'
        ]
        parts += self._axes()
        for number, line in enumerate(self.chart.lines):
            parts += self._line(number % 8, line)
        if self.labelled:
            parts += self._labels()
        return "".join([*parts, "</svg>"])

    def _axes(self) -> list[str]:
        end = self.width - self.right
        parts = []
        for value in self.steps:
            at = f"{self.y(value):.1f}"
            parts.append(f'<line class="grid" x1="{self.left}" x2="{end}" y1="{at}" y2="{at}"/>')
            parts.append(
                f'<text class="tick" x="{self.left - 6}" y="{self.y(value) + 4:.1f}"'
                f' text-anchor="end">{value:g}</text>'
            )
        floor = self.height - self.bottom
        for value in self.chart.borders:
            parts.append(
                f'<line class="border" x1="{self.x(value):.1f}" x2="{self.x(value):.1f}"'
                f' y1="{self.top}" y2="{floor}"/>'
            )
        for value, name in self.chart.ticks:
            at = f"{self.x(value):.1f}"
            parts.append(
                f'<text class="tick" x="{at}" y="{floor + 16}"'
                f' text-anchor="middle">{escape(name)}</text>'
            )
        return parts

    def _line(self, colour: int, line: Line) -> list[str]:
        places = [(self.x(x), self.y(y)) for x, y in thinned(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts = [
            f'<polyline class="line s{colour}"'
            f' points="{path}"><title>{escape(line.name)}</title></polyline>'
        ]
        for (x, y), deviation in zip(line.points, line.spread, strict=False):
            if deviation:
                top, low = self.y(y + deviation), self.y(y - deviation)
                at = self.x(x) + 3 * (colour - 1)
                parts.append(
                    f'<line class="whisker s{colour}" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}"'
                    f' y2="{low:.1f}"/>'
                )
        if self.chart.dots:
            parts += [
                f'<circle class="dot s{colour}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}"'
                f' r="4"><title>{escape(line.name)}: {y:.1f}</title></circle>'
                for x, y in line.points
            ]
        return parts

    def _labels(self) -> list[str]:
        """Names at the ends of the lines, moved apart where they would touch."""
        ends = sorted(
            (self.y(line.points[-1][1]), n, line) for n, line in enumerate(self.chart.lines)
        )
        parts, above = [], -math.inf
        for y, number, line in ends:
            above = max(y, above + 13)
            x = self.x(line.points[-1][0]) + 8
            parts.append(
                f'<text class="name s{number % 8}" x="{x:.1f}"'
                f' y="{above + 4:.1f}">{escape(line.name)}</text>'
            )
        return parts


def thinned(points: Sequence[Point]) -> list[Point]:
    """Means of neighbouring points, so that there are few."""
    group = -(-len(points) // POINTS)
    parts = [points[i : i + group] for i in range(0, len(points), group)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts
    ]


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers from below ``low`` to above ``high``, four or so."""
    span = max(high - low, abs(high) * 1e-3, 1e-12)
    size = 10.0 ** math.floor(math.log10(span / 3))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if span / (size * factor) <= 4)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]
