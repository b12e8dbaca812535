"""Tables of one run for its report, most of them coloured by their values."""

from __future__ import annotations

from muhdi.evaluation.results import row_title
from muhdi.report.page import HeatCell, HeatMap, percent_cell
from muhdi.report.result_table import Cell, ResultTable, known_values, statistics_title
from muhdi.report.run_files import RunData
from muhdi.report.tables import matrix_table

FAINT = 0.5
"""Percent of a class below which a cell of a confusion matrix stays empty: it would say 0."""


def matrix_map(run: RunData, statistics: str) -> HeatMap:
    """R[stage][domain].

    The cell of the step that adapted to its domain is marked, and those before it are pale.
    """
    results = run.results
    adapted_at = dict(zip(results.targets, results.adapted_at, strict=True))
    table = matrix_table(results, statistics)
    rows = []
    for step, (name, *values) in enumerate(table.rows):
        cells = []
        for domain, value in zip(results.domains, values, strict=True):
            # The source, and further domains, count from the first step on; where there are no
            # other steps there is nothing to tell apart.
            first = adapted_at.get(domain, 0) if len(results.steps) > 1 else 0
            cells.append(percent_cell(value, _mark(step, first)))
        rows.append((str(name), cells))
    return HeatMap(table.title, table.header, rows)


def _mark(step: int, first: int) -> str:
    """CSS class of a cell, by the step that adapted to its domain."""
    if step == first:
        return "framed"
    return "before" if step < first else ""


def forgetting_table(run: RunData, statistics: str) -> ResultTable:
    """For every target: after its step, at its best, at the end, and what was lost of it."""
    results = run.results
    rows: list[list[Cell]] = []
    for target, step in zip(results.targets, results.adapted_at, strict=True):
        column = [row[0] for row in results.matrix(statistics, [target])]
        # An unfinished run may not have come to this target; then these are empty.
        since = column[step:]
        best = max(known_values(since), default=None)
        last = column[-1]
        lost: Cell = None
        if best is not None and last is not None:
            # What the last step adapted to cannot have been forgotten yet.
            lost = best - last if len(since) > 1 else "newest"
        rows.append([target, column[0], since[0] if since else None, best, last, lost])
    header = ["target", "source only", "after its step", "at its best", "at the end", "lost"]
    title = f"mIoU of the targets in percent, {statistics_title(statistics)}"
    return ResultTable(title, header, rows)


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
    header = ["class", *map(row_title, run.results.steps)]
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
