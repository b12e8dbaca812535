"""The runs of a folder: how far they are, and what they have reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from muhdi.errors import DataError, MuhdiError
from muhdi.recipe.load import RECIPE
from muhdi.report.result_table import Cell, ResultTable
from muhdi.report.run_files import read_run
from muhdi.run.directory import RunDirectory


@dataclass(frozen=True)
class ListedRun:
    """A run in one line.

    Attributes:
        name: of its folder.
        state: ``finished``, or ``running`` or ``stopped`` with the number of scored stages,
            or ``cannot be read``.
        statistics: the choice whose scores follow.
        score: average target mIoU in percent after the last stage; None if there is none.
        page: its report; None if there is none yet.
        problem: why it cannot be read.
    """

    name: str
    state: str
    statistics: str = ""
    score: float | None = None
    page: Path | None = None
    problem: str = ""


def list_runs(folder: Path) -> list[ListedRun]:
    """Every run below ``folder``, by name.

    Raises:
        DataError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give the folder of the runs")
    found = sorted(path.parent for path in folder.glob(f"*/{RECIPE}"))
    if not found:
        raise DataError(f"{folder}: holds no run; train one with muhdi train")
    return [_listed(path) for path in found]


def _listed(folder: Path) -> ListedRun:
    directory = RunDirectory(folder)
    page = directory.page if directory.page.is_file() else None
    going = "running" if directory.is_locked() else "stopped"
    if not directory.results.exists():
        return ListedRun(folder.name, f"{going}, nothing is scored yet")
    try:
        run = read_run(folder)
    except MuhdiError as error:
        return ListedRun(folder.name, "cannot be read", page=page, problem=str(error))
    stages = f"{len(run.results.steps)}/{len(run.stages)} stages"
    state = "finished" if run.finished else f"{going}, {stages}"
    statistics = run.results.main_statistics
    score = run.results.summary(statistics).average if run.results.steps else None
    return ListedRun(folder.name, state, statistics, score, page)


def runs_table(runs: list[ListedRun], folder: Path) -> ResultTable:
    """A row for every run."""
    rows: list[list[Cell]] = []
    for run in runs:
        page = run.page.name if run.page is not None else "none yet"
        rows.append([run.name, run.state, run.statistics, run.score, page])
    header = ["run", "state", "statistics", "target mIoU", "page"]
    return ResultTable(f"Runs in {folder}", header, rows)
