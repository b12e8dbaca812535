"""Line charts as SVG text, which takes its colours from the page that shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]
POINTS = 400
"""More points than this of one line are averaged; the drawing is not wider."""

# Of the drawing, whose units are about the pixels of a screen.
LEFT = 44  # room for the numbers of the y axis
TOP = 12
BOTTOM = 24  # room for the names on the x axis
RIGHT = 22
LETTER = 7  # width of a letter of a line's name, at the right
LINE_HEIGHT = 13
COLOURS = 8  # that the page has; further lines begin again


@dataclass(frozen=True)
class Line:
    """A named line.

    Attributes:
        name: of the line.
        points: from left to right.
        spread: a deviation for each point, drawn as a whisker; empty: there are none.
        colour: number of its colour; None: its place among the lines.
    """

    name: str
    points: Sequence[Point]
    spread: Sequence[float | None] = field(default_factory=list)
    colour: int | None = None

    def heights(self) -> list[float]:
        """Heights of all points and of the ends of their whiskers."""
        found = [y for _, y in self.points]
        for (_, y), deviation in zip(self.points, self.spread, strict=False):
            if deviation:
                found += [y - deviation, y + deviation]
        return found


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        title: read out in place of the drawing.
        lines: numbered in the order of their colours.
        ticks: positions on the x axis and what is written there.
        borders: x of vertical lines, where stages end.
        dots: mark every point.
        zero: whether the y axis begins at 0.
        keyed: the page has a key to the colours; else names are at the ends of the lines.
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
        return _Drawing(self).svg()


class _Drawing:
    """A chart with its scales: from values to units of the drawing."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.width, self.height = chart.size
        self.floor = self.height - BOTTOM
        self.end = self.width - RIGHT
        # A single line is named by the chart's title.
        self.labelled = len(chart.lines) > 1 and not chart.keyed
        if self.labelled:
            self.end -= LETTER * max(len(line.name) for line in chart.lines)

        xs: list[float] = []
        ys: list[float] = []
        for line in chart.lines:
            xs += [x for x, _ in line.points]
            ys += line.heights()
        self.x_low = min(xs)
        # At least one wide: a single point would divide by zero.
        self.x_high = max(max(xs), self.x_low + 1)
        lowest = min(0.0, *ys) if chart.zero else min(ys)
        self.y_ticks = nice_ticks(lowest, max(ys))

    def x(self, value: float) -> float:
        fraction = (value - self.x_low) / (self.x_high - self.x_low)
        return LEFT + fraction * (self.end - LEFT)

    def y(self, value: float) -> float:
        low = self.y_ticks[0]
        fraction = (value - low) / (self.y_ticks[-1] - low)
        # Downwards, as SVG counts.
        return self.floor - fraction * (self.floor - TOP)

    def svg(self) -> str:
        parts = [
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img"'
            f' aria-label="{escape(self.chart.title)}" class="chart">'
        ]
        # What comes later is drawn above: lines over the grid, names over lines.
        parts += self._y_axis()
        parts += self._x_axis()
        for number, line in enumerate(self.chart.lines):
            parts += self._line(number if line.colour is None else line.colour, line)
        if self.labelled:
            parts += self._names()
        parts.append("</svg>")
        return "".join(parts)

    def _y_axis(self) -> list[str]:
        parts = []
        for value in self.y_ticks:
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{self.end}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}"'
                f' text-anchor="end">{value:g}</text>'
            )
        return parts

    def _x_axis(self) -> list[str]:
        parts = []
        for value in self.chart.borders:
            x = self.x(value)
            parts.append(
                f'<line class="border" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self.floor}"/>'
            )
        free = -math.inf  # where a name may begin
        for value, name in self.chart.ticks:
            x = self.x(value)
            half = LETTER * len(name) / 2
            # Names of many steps would lie on each other: those that do not fit are left out.
            if x - half < free:
                continue
            free = x + half + LETTER
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{self.floor + 16}"'
                f' text-anchor="middle">{escape(name)}</text>'
            )
        return parts

    def _line(self, number: int, line: Line) -> list[str]:
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in thinned(line.points))
        colour = number % COLOURS
        # A colour that is used again is dashed.
        again = " again" if number >= COLOURS else ""
        parts = [
            f'<polyline class="line s{colour}{again}"'
            f' points="{path}"><title>{escape(line.name)}</title></polyline>'
        ]
        parts += self._whiskers(colour, line)
        if self.chart.dots:
            parts += self._dots(colour, line)
        return parts

    def _whiskers(self, colour: int, line: Line) -> list[str]:
        parts = []
        for (x, y), deviation in zip(line.points, line.spread, strict=False):
            if not deviation:
                continue
            # A little apart, so that those of several lines at one step can be told apart.
            at = self.x(x) + 3 * (colour - 1)
            parts.append(
                f'<line class="whisker s{colour}" x1="{at:.1f}" x2="{at:.1f}"'
                f' y1="{self.y(y + deviation):.1f}" y2="{self.y(y - deviation):.1f}"/>'
            )
        return parts

    def _dots(self, colour: int, line: Line) -> list[str]:
        parts = []
        for x, y in line.points:
            parts.append(
                f'<circle class="dot s{colour}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}"'
                f' r="4"><title>{escape(line.name)}: {y:.1f}</title></circle>'
            )
        return parts

    def _names(self) -> list[str]:
        """Names at the ends of the lines, moved apart where they would touch."""
        ends = []
        for number, line in enumerate(self.chart.lines):
            ends.append((self.y(line.points[-1][1]), number))
        ends.sort()
        parts = []
        for y, (_, number) in zip(moved_apart([y for y, _ in ends], self.floor), ends, strict=True):
            line = self.chart.lines[number]
            x = self.x(line.points[-1][0]) + 8
            parts.append(
                f'<text class="name s{number % COLOURS}" x="{x:.1f}"'
                f' y="{y + 4:.1f}">{escape(line.name)}</text>'
            )
        return parts


def moved_apart(heights: Sequence[float], floor: float) -> list[float]:
    """Heights of names, from the top down, moved so that they are `LINE_HEIGHT` apart.

    Args:
        heights: where they would be, in order.
        floor: of the drawing; names that would come to lie below it push those above them up.
    """
    moved: list[float] = []
    for y in heights:
        moved.append(max(y, moved[-1] + LINE_HEIGHT) if moved else y)
    limit = floor
    for place in reversed(range(len(moved))):
        moved[place] = min(moved[place], limit)
        limit = moved[place] - LINE_HEIGHT
    return moved


def thinned(points: Sequence[Point]) -> list[Point]:
    """Means of neighbouring points, so that there are `POINTS` at most."""
    size = math.ceil(len(points) / POINTS)
    means = []
    for start in range(0, len(points), size):
        neighbours = points[start : start + size]
        x = sum(x for x, _ in neighbours) / len(neighbours)
        y = sum(y for _, y in neighbours) / len(neighbours)
        means.append((x, y))
    return means


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers from below ``low`` to above ``high``, about four."""
    # Not zero for a flat line, and large enough that `high` plus a tick is another number.
    span = max(high - low, abs(high) * 1e-3, 1e-12)
    size = 10.0 ** math.floor(math.log10(span / 3))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if span / (size * factor) <= 4)
    # 1e-9 of a step: a value that is a tick but for rounding needs no further one.
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    # Through text, which cuts 0.30000000000000004 to 0.3.
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]
