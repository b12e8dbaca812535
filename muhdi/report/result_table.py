"""A table of results, and the ways to write it: for the terminal, Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from rich.console import Group

Format = Literal["markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of ``count`` values; a single one has no deviation."""

    mean: float
    deviation: float | None
    count: int


Cell = str | float | Spread | None
"""A text, a number, a mean over seeds; None where there is no value."""


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and deviation over seeds; None where a value is missing."""
    known = known_values(values)
    if not known or len(known) < len(values):
        return None
    deviation = stdev(known) if len(known) > 1 else None
    return Spread(mean(known), deviation, len(known))


def known_values(values: Sequence[float | None]) -> list[float]:
    """The values without those that are missing."""
    return [value for value in values if value is not None]


def text(cell: Cell) -> str:
    """A cell as text: one decimal, a dash where there is no value."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Spread):
        return f"{cell:.1f}"
    if cell.deviation is None:
        return f"{cell.mean:.1f}"
    return f"{cell.mean:.1f} ± {cell.deviation:.1f}"


def statistics_title(statistics: str) -> str:
    """What titles call normalisation statistics: a network may have none."""
    if statistics == "none":
        return "no normalisation statistics"
    return f"{statistics} statistics"


def with_statistics(statistics: str) -> str:
    """The same within a sentence: ``with running statistics``."""
    if statistics == "none":
        return "without normalisation statistics"
    return f"with {statistics} statistics"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table in Markdown; columns but the first are numbers."""
    alignment = ["---"] + ["---:"] * (len(header) - 1)
    lines = [_markdown_line(header), _markdown_line(alignment)]
    for row in rows:
        lines.append(_markdown_line([text(cell) for cell in row]))
    return "\n".join(lines) + "\n"


def _markdown_line(cells: Sequence[str]) -> str:
    # A bar would end the cell.
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return "| " + " | ".join(escaped) + " |"


@dataclass(frozen=True)
class ResultTable:
    """A table whose first column names the rows.

    Attributes:
        title: what it shows.
        header: names of the columns.
        rows: cells, as many as columns.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]

    def terminal(self) -> Group:
        """For a rich console."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        # Text objects, not strings: names of domains are not console markup.
        table = Table()
        for position, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if position else "left")
        for row in self.rows:
            table.add_row(*(Text(text(cell)) for cell in row))
        return Group(Text(self.title), table)

    def markdown(self) -> str:
        """The rows in Markdown, without the title."""
        return markdown(self.header, self.rows)

    def latex(self) -> str:
        """A table for a paper; it needs the package booktabs."""
        columns = "l" + "r" * (len(self.header) - 1)
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex_escaped(self.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_line(self.header),
            r"\midrule",
        ]
        for row in self.rows:
            lines.append(_latex_line(row))
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Numbers in full, for other programs.

        A column of means is followed by one of standard deviations where there are any.
        """
        with_deviation = self._columns_with_deviation()
        header: list[str] = []
        for index, name in enumerate(self.header):
            header.append(name)
            if index in with_deviation:
                header.append(f"{name} deviation")

        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            values: list[str | float] = []
            for index, cell in enumerate(row):
                value, deviation = _csv_pair(cell)
                values.append(value)
                if index in with_deviation:
                    values.append(deviation)
            writer.writerow(values)
        return buffer.getvalue()

    def _columns_with_deviation(self) -> set[int]:
        found = set()
        for row in self.rows:
            for index, cell in enumerate(row):
                if isinstance(cell, Spread) and cell.deviation is not None:
                    found.add(index)
        return found

    def data(self) -> dict[str, Any]:
        """Plain values: a mean over seeds is ``{mean, deviation, count}``."""
        rows = []
        for row in self.rows:
            plain = [vars(cell) if isinstance(cell, Spread) else cell for cell in row]
            rows.append(dict(zip(self.header, plain, strict=True)))
        return {"title": self.title, "header": self.header, "rows": rows}


def render(tables: Sequence[ResultTable], form: Format) -> str:
    """Several tables as one text."""
    if form == "json":
        return json.dumps([table.data() for table in tables], indent=1, ensure_ascii=False) + "\n"
    if form == "markdown":
        return "\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in tables)
    if form == "latex":
        return "\n".join(table.latex() for table in tables)
    return "\n".join(f"# {table.title}\n{table.csv()}" for table in tables)


def _csv_pair(cell: Cell) -> tuple[str | float, str | float]:
    """Value and deviation; both empty where there is no value."""
    if cell is None:
        return "", ""
    if not isinstance(cell, Spread):
        return cell, ""
    return cell.mean, "" if cell.deviation is None else cell.deviation


def _latex_line(cells: Sequence[Cell]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(cell: Cell) -> str:
    if isinstance(cell, Spread) and cell.deviation is not None:
        return rf"${cell.mean:.1f} \pm {cell.deviation:.1f}$"
    return "--" if cell is None else _latex_escaped(text(cell))


_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _latex_escaped(plain: str) -> str:
    # Character by character: replacements hold special characters themselves.
    return "".join(_LATEX_SPECIAL.get(character, character) for character in plain)
