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
    """Mean and standard deviation of ``count`` values; of a single one there is no deviation."""

    mean: float
    deviation: float | None
    count: int


Cell = str | float | Spread | None
"""A word, a number, a mean over seeds; None where there is no value."""


def spread(values: Sequence[float | None]) -> Spread | None:
    """Mean and deviation over seeds; None where a value is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Spread(mean(known), stdev(known) if len(known) > 1 else None, len(known))


def text(cell: Cell) -> str:
    """A cell in words: one decimal, a dash where there is no value."""
    if isinstance(cell, Spread):
        return f"{cell.mean:.1f}" + ("" if cell.deviation is None else f" ± {cell.deviation:.1f}")
    return "-" if cell is None else cell if isinstance(cell, str) else f"{cell:.1f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table in Markdown; columns but the first are numbers."""
    cells = [[text(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


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
        lines = [" & ".join(map(_escaped, self.header)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(_latex, row)) + r" \\" for row in self.rows]
        begin = rf"\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}"
        table = "\n".join([begin, r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"])
        caption = f"\\caption{{{_escaped(self.title)}}}"
        return f"\\begin{{table}}\n\\centering\n{caption}\n{table}\n\\end{{table}}\n"

    def csv(self) -> str:
        """Numbers in full; a column of means is followed by its standard deviations, if any."""
        deviations = {
            place
            for row in self.rows
            for place, cell in enumerate(row)
            if isinstance(cell, Spread) and cell.deviation is not None
        }
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(
            self._with_deviations(self.header, deviations, lambda name: (name, f"{name} deviation"))
        )
        for row in self.rows:
            writer.writerow(self._with_deviations(row, deviations, _csv_pair))
        return buffer.getvalue()

    def data(self) -> dict[str, Any]:
        """Plain values: a mean over seeds is ``{mean, deviation, count}``."""
        plain = [
            [vars(cell) if isinstance(cell, Spread) else cell for cell in row] for row in self.rows
        ]
        rows = [dict(zip(self.header, row, strict=True)) for row in plain]
        return {"title": self.title, "header": self.header, "rows": rows}

    @staticmethod
    def _with_deviations(row: Sequence[Any], deviations: set[int], pair: Any) -> list[Any]:
        line: list[Any] = []
        for place, cell in enumerate(row):
            value, deviation = pair(cell)
            line += [value, deviation] if place in deviations else [value]
        return line


def render(tables: Sequence[ResultTable], form: Format) -> str:
    """Several tables as one text."""
    if form == "json":
        return json.dumps([table.data() for table in tables], indent=1, ensure_ascii=False) + "\n"
    if form == "markdown":
        return "\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in tables)
    if form == "latex":
        return "\n".join(table.latex() for table in tables)
    return "\n".join(f"# {table.title}\n{table.csv()}" for table in tables)


def _csv_pair(cell: Cell) -> tuple[Any, Any]:
    if isinstance(cell, Spread):
        return cell.mean, cell.deviation
    return ("" if cell is None else cell), ""


def _latex(cell: Cell) -> str:
    if isinstance(cell, Spread) and cell.deviation is not None:
        return rf"${cell.mean:.1f} \pm {cell.deviation:.1f}$"
    return "--" if cell is None else _escaped(text(cell))


def _escaped(words: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
    }
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in words)
