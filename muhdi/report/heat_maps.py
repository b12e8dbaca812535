"""Tables of one run for its report, most of them coloured by their values."""

from __future__ import annotations

from collections.abc import Sequence

from muhdi.evaluation.results import row_titles
from muhdi.report.page import HeatCell, HeatMap, percent_cell
from muhdi.report.result_table import Cell, ResultTable, known_values, statistics_title
from muhdi.report.run_files import RunData
from muhdi.report.tables import matrix_table

FAINT = 0.5
"""Percent of a class below which a cell of a confusion matrix stays empty: it would say 0."""


def matrix_map(run: RunData, statistics: str) -> HeatMap:
    """R[stage][domain].

    The cells of steps that adapted to their domain are marked, and those before the first are pale.
    """
    results = run.results
    visits = results.visits
    table = matrix_table(results, statistics)
    rows = []
    for step, (name, *values) in enumerate(table.rows):
        cells = []
        for domain, value in zip(results.domains, values, strict=True):
            # The source, and further domains, count from the first step on; where there are no
            # other steps there is nothing to tell apart.
            adapted = visits.get(domain, [0]) if len(results.steps) > 1 else [0]
            cells.append(percent_cell(value, _mark(step, adapted)))
        rows.append((str(name), cells))
    return HeatMap(table.title, table.header, rows)


def _mark(step: int, adapted: Sequence[int]) -> str:
    """CSS class of a cell, by the steps that adapted to its domain."""
    if step in adapted:
        return "framed"
    return "before" if step < adapted[0] else ""


def forgetting_table(run: RunData, statistics: str) -> ResultTable:
    """For every target: after its step, at its best, at the end, and what was lost of it.

    A target that comes back has a row for each of its steps, which ends before the next one.
    """
    results = run.results
    rows: list[list[Cell]] = []
    for target, steps in results.visits.items():
        column = [row[0] for row in results.matrix(statistics, [target])]
        for step, until in zip(steps, [*steps[1:], len(column)], strict=True):
            name = target if len(steps) == 1 else f"{target}, {_span(step, until - 1)}"
            # An unfinished run may not have come to this target; then it is empty.
            rows.append([name, column[0], *_lost(column[step:until], column[until - 1])])
    header = ["target", "source only", "after its step", "at its best", "at the end", "lost"]
    title = f"mIoU of the targets in percent, {statistics_title(statistics)}"
    return ResultTable(title, header, rows)


def _lost(since: Sequence[float | None], last: float | None) -> list[Cell]:
    """The first score since a step, the best, the last, and what was lost of the best."""
    best = max(known_values(since), default=None)
    lost: Cell = None
    if best is not None and last is not None:
        # What the last step adapted to cannot have been forgotten yet.
        lost = best - last if len(since) > 1 else "newest"
    return [since[0] if since else None, best, last, lost]


def _span(first: int, last: int) -> str:
    return f"step {first}" if first == last else f"steps {first} to {last}"


def class_map(run: RunData, statistics: str, domain: str) -> HeatMap | None:
    """IoU per class and stage of one domain; None where it was never scored."""
    by_step = []
    for step in run.results.steps:
        entry = step["scores"][statistics].get(domain, {})
        by_step.append(entry.get("iou") or {})
    scored = [iou for iou in by_step if iou]
    if not scored:
        return None
    rows = []
    for name in scored[0]:
        rows.append((name, [percent_cell(iou.get(name)) for iou in by_step]))
    header = ["class", *row_titles(run.results.steps)]
    title = f"{domain}: IoU in percent per class after each stage, {statistics_title(statistics)}"
    return HeatMap(title, header, rows)


def confusion_map(run: RunData, statistics: str, domain: str) -> HeatMap | None:
    """The confusion matrix after the last step, each row in percent of its true class.

    None where none was kept.
    """
    matrix = run.results.confusion.get(statistics, {}).get(domain)
    if matrix is None:
        return None
    classes = run.recipe.class_set().classes
    rows = []
    for true, (name, counts) in enumerate(zip(classes, matrix, strict=True)):
        total = sum(counts)
        cells = []
        for predicted, count in enumerate(counts):
            percent = 100 * count / total if total else None
            cells.append(_confusion_cell(percent, correct=predicted == true))
        rows.append((name if total else f"{name} (no label)", cells))
    title = (
        f"{domain}: of the pixels of each true class, percent predicted as each class,"
        f" {statistics_title(statistics)}"
    )
    return HeatMap(title, ["true \\ predicted", *classes], rows)


def _confusion_cell(percent: float | None, *, correct: bool) -> HeatCell:
    marks = "framed" if correct else ""
    if percent is None:
        return HeatCell("", None, marks)
    text = "" if percent < FAINT else f"{percent:.0f}"
    return HeatCell(text, percent / 100, marks)
