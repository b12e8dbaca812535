"""A table of results, and the ways to write it: for the terminal, Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal, get_args

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

Format = Literal["markdown", "latex", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of ``count`` values; a single one has no deviation."""

    mean: float
    deviation: float | None
    count: int


UNLABELLED = "unlabelled"
"""The cell of a domain that has no score since it has no labels."""

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

    def terminal(self) -> FittingTable:
        """For a rich console, however wide it is."""
        return FittingTable(self)

    def without_empty(self) -> tuple[ResultTable, list[str]]:
        """The table without columns that hold no number, and the names of these columns."""
        kept = [0]
        for column in range(1, len(self.header)):
            if any(_is_value(row[column]) for row in self.rows):
                kept.append(column)
        left_out = [name for column, name in enumerate(self.header) if column not in kept]
        if len(kept) == 1:
            return self, []
        rows = [[row[column] for column in kept] for row in self.rows]
        return ResultTable(self.title, [self.header[column] for column in kept], rows), left_out

    def transposed(self) -> ResultTable:
        """Columns as rows."""
        header = [self.header[0], *(text(row[0]) for row in self.rows)]
        rows: list[list[Cell]] = []
        for column, name in enumerate(self.header[1:], start=1):
            rows.append([name, *(row[column] for row in self.rows)])
        return ResultTable(self.title, header, rows)

    def without_prefix(self) -> ResultTable:
        """Without the words that all names of rows begin with; the title says them."""
        names = [text(row[0]) for row in self.rows]
        prefix = _common_words(names)
        if not prefix:
            return self
        rows: list[list[Cell]] = []
        for name, row in zip(names, self.rows, strict=True):
            rows.append([name.removeprefix(prefix), *row[1:]])
        return ResultTable(f"{self.title}; {prefix}…", self.header, rows)

    def blocks(self, columns: int) -> list[ResultTable]:
        """Tables of so many columns besides the first, which each of them has."""
        tables = []
        for start in range(1, len(self.header), columns):
            chosen = slice(start, start + columns)
            rows = [[row[0], *row[chosen]] for row in self.rows]
            tables.append(ResultTable(self.title, [self.header[0], *self.header[chosen]], rows))
        return tables

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


class FittingTable:
    """A table on a rich console: nothing of it is cut or wrapped, however narrow the console is.

    Where it is too wide, words that all rows begin with are left out; then it is transposed; then
    its columns are shown in several tables. Columns without any number become a line of text.

    Args:
        table: to show.
    """

    def __init__(self, table: ResultTable) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        table, left_out = self._table.without_empty()
        tables = _fitted(table, options.max_width)
        yield Text(tables[0].title)
        for part in tables:
            yield _rich_table(part)
        if left_out:
            yield Text(f"no score, since unlabelled or not measured: {', '.join(left_out)}")


def _fitted(table: ResultTable, width: int) -> list[ResultTable]:
    """The table, or what is shown instead of it in ``width`` columns."""
    short = table.without_prefix()
    for choice in (table, short, short.transposed()):
        if _width(choice) <= width:
            return [choice]
    for columns in range(len(short.header) - 2, 1, -1):
        parts = short.blocks(columns)
        if all(_width(part) <= width for part in parts):
            return parts
    return short.blocks(1)


def _width(table: ResultTable) -> int:
    """Columns of the terminal that a table takes, with its frame."""
    widths = []
    for position, name in enumerate(table.header):
        cells = [name, *(text(row[position]) for row in table.rows)]
        widths.append(max(cell_len(cell) for cell in cells))
    return sum(widths) + 3 * len(widths) + 1


def _rich_table(table: ResultTable) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Text objects, not strings: names of domains are not console markup.
    shown = Table()
    for position, name in enumerate(table.header):
        justify: Literal["left", "right"] = "right" if position else "left"
        shown.add_column(Text(name), justify=justify, no_wrap=True)
    for row in table.rows:
        shown.add_row(*(Text(text(cell)) for cell in row))
    return shown


def _is_value(cell: Cell) -> bool:
    return cell is not None and cell != UNLABELLED


def _common_words(names: Sequence[str]) -> str:
    """What all names begin with, up to the end of a word; empty for fewer than two names."""
    if len(set(names)) < 2:
        return ""
    shared = ""
    for letters in zip(*names, strict=False):
        if len(set(letters)) > 1:
            break
        shared += letters[0]
    end = max(shared.rfind(separator) for separator in "_-/. ")
    return shared[: end + 1]


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
