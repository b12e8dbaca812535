"""What commands print: tables, the end of a run, progress."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from muhdi.errors import RecipeError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from muhdi.evaluation.results import Results
    from muhdi.recipe.schema import Recipe
    from muhdi.report.board import Board
    from muhdi.report.result_table import ResultTable
    from muhdi.run.costs import DryRun

WIDTH = 140
"""Columns of tables that go to a file or a pipe, so that none of them is cut."""


def one_line(message: object) -> str:
    """A message on one line that any terminal can show, whatever the names that it quotes."""
    line = "\\n".join(str(message).splitlines())
    return line.encode("utf-8", "backslashreplace").decode()


def console() -> Console:
    """Where tables go; without a terminal they are wide enough to be read in a file."""
    from rich.console import Console

    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = max(WIDTH, out.width)
    return out


class Bar:
    """A line of progress on standard error, and lines of text above it.

    Args:
        name: of what is done.
        quiet: nothing is shown.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        from muhdi.run.progress import ProgressLine, Screen

        self._screen = Screen(stderr=True, quiet=quiet)
        self._line = ProgressLine(self._screen, name, transient=True)

    def update(self, done: int, total: int | None) -> None:
        """Show the number of items that are done, and of all."""
        with self._screen.may_be_gone():
            self._line.update(done, total)

    def print(self, text: str) -> None:
        """A line above the bar."""
        with self._screen.may_be_gone():
            self._screen.print(one_line(text), markup=False)

    def stop(self) -> None:
        """Remove the bar: a result follows."""
        with self._screen.may_be_gone():
            self._line.stop()


@contextmanager
def progress(name: str, *, quiet: bool = False) -> Iterator[Bar]:
    """A bar that is removed at the end; without a terminal, a plain line now and then."""
    bar = Bar(name, quiet=quiet)
    try:
        yield bar
    finally:
        bar.stop()


class BoardOutput:
    """How far a sweep is, on standard error.

    Args:
        quiet: nothing is shown.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        from muhdi.report.board import LiveBoard
        from muhdi.run.progress import Screen

        self._screen = Screen(stderr=True, quiet=quiet)
        self._board = LiveBoard(self._screen)

    def show(self, board: Board) -> None:
        """Show how far the runs are now."""
        with self._screen.may_be_gone():
            self._board.show(board)

    def print(self, text: str) -> None:
        """A line of what happens."""
        with self._screen.may_be_gone():
            self._board.print(one_line(text))

    def stop(self) -> None:
        """The sweep ends."""
        with self._screen.may_be_gone():
            self._board.stop()


@contextmanager
def live_board(*, quiet: bool = False) -> Iterator[BoardOutput]:
    """A table of runs that is drawn again and again; without a terminal, plain lines."""
    board = BoardOutput(quiet=quiet)
    try:
        yield board
    finally:
        board.stop()


def check_format(form: str | None) -> None:
    """Refuse an unknown ``--format`` before anything is computed."""
    from muhdi.report.result_table import FORMATS

    if form is not None and form not in FORMATS:
        hint = nearest(form, list(FORMATS))
        raise RecipeError(f"--format {form}: must be one of {', '.join(FORMATS)}{hint}")


def print_tables(tables: Sequence[ResultTable], form: str | None = None) -> None:
    """Print tables for people, or in a format that can be pasted."""
    from muhdi.report.result_table import FORMATS, render

    chosen = next((known for known in FORMATS if known == form), None)
    if chosen is not None:
        typer.echo(render(tables, chosen), nl=False)
        return
    out = console()
    for table in tables:
        out.print(table.terminal())


def print_notes(notes: Iterable[object], *, err: bool = False) -> None:
    """Print what the user should know, a line each.

    Args:
        notes: messages.
        err: to standard error, since standard output is data.
    """
    for note in notes:
        typer.echo(f"note: {one_line(note)}", err=err)


def print_run(results: Results, recipe: Recipe, experiments: Path | None) -> None:
    """Print the results of a run that has just ended, and where its page is.

    One choice of statistics is enough here; the page has all of them.
    """
    from muhdi.report.label_free import label_free_table, sentence, unlabelled
    from muhdi.report.labelled import labelled_lines
    from muhdi.report.reached import reached
    from muhdi.report.selected import selected_lines
    from muhdi.report.tables import matrix_table
    from muhdi.run.directory import RunDirectory

    out = console()
    statistics = results.main_statistics
    out.print(matrix_table(results, statistics).terminal())
    out.print(reached(results, statistics), markup=False)
    for line in [*labelled_lines(results), *selected_lines(results)]:
        out.print(line, markup=False)
    for domain in unlabelled(results, statistics):
        out.print(label_free_table(results, statistics, domain).terminal())
        out.print(sentence(results, statistics, domain), markup=False)
    folder = RunDirectory.of(recipe, experiments).folder
    out.print(
        f"Report, to open in a browser: {folder / 'report.html'}", soft_wrap=True, markup=False
    )


def print_costs(costs: DryRun) -> None:
    """Print what a dry run has measured, and what follows for the whole recipe."""
    from muhdi.report.info_tables import costs_table, estimate

    print_tables([costs_table(costs)])
    print_notes(costs.notes)
    for line in estimate(costs):
        typer.echo(line)
    typer.echo("The second iteration of each stage was timed; nothing was written.")


def print_scores(results: Results, form: str | None = None, *, every: bool = False) -> None:
    """Print the scores of every network, and those of the best one by class.

    Args:
        results: with a row per network.
        form: a format that can be pasted; None: for people.
        every: show all choices of statistics; other programs get them anyway.
    """
    from muhdi.evaluation.results import best_row
    from muhdi.report.label_free import networks_table, without_labels
    from muhdi.report.tables import classes_table, matrix_table

    shown = results.statistics if every or form is not None else [results.main_statistics]
    tables = []
    for statistics in shown:
        best = best_row(results, statistics)
        tables.append(matrix_table(results, statistics, "network"))
        tables.append(classes_table(results, statistics, best))
        for domain in without_labels(results, statistics):
            tables.append(networks_table(results, statistics, domain))
    print_tables(tables, form)
    for note in results.notes:
        typer.echo(one_line(note), err=form is not None)
    others = [name for name in results.statistics if name not in shown]
    if others:
        typer.echo(f"Also scored with {' and '.join(others)} statistics: --statistics shows them.")


def print_page(path: Path, form: str | None = None) -> None:
    """The last line of a command: the page to open."""
    typer.echo(f"Report, to open in a browser: {one_line(path)}", err=form is not None)
