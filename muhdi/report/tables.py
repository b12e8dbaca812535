"""Tables of results, and what one may say about them in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from muhdi.evaluation.results import Results, row_titles
from muhdi.report.labelled import arm_title
from muhdi.report.result_table import (
    UNLABELLED,
    Cell,
    ResultTable,
    known_values,
    spread,
    statistics_title,
)

CHANGES = (
    "confidence_before",
    "confidence_after",
    "entropy_before",
    "entropy_after",
    "agreement",
)
"""Measures of ``change.json``, in the order of the table's columns."""

MEASURES = {
    "average": "target average",
    "forgetting": "forgetting",
    "backward": "backward transfer",
    "forward": "forward transfer",
    "before_return": "lost before a return",
    "area": "mean over the iterations",
}
"""Attributes of a summary, and what tables of runs call them."""
ONLY_OF_SOME = ("before_return", "area")
"""Those that need a target that comes back, or evaluations within the steps."""


def matrix_table(results: Results, statistics: str, rows: str = "after") -> ResultTable:
    """R[stage][domain] of one run; of other rows, such as networks, also their mean.

    Args:
        results: of the run.
        statistics: the normalisation statistics.
        rows: what the rows are; it heads their names.
    """
    # The mean over domains of a step would count domains that are yet to come.
    with_mean = rows != "after" and len(results.domains) > 1
    lines: list[list[Cell]] = []
    titles = row_titles(results.steps)
    matrix = results.matrix(statistics)
    for name, step, values in zip(titles, results.steps, matrix, strict=True):
        entries = step["scores"].get(statistics, {})
        line: list[Cell] = [name]
        for domain, value in zip(results.domains, values, strict=True):
            line.append(_reason(entries.get(domain, {})) if value is None else value)
        if with_mean:
            known = known_values(values)
            line.append(mean(known) if known else None)
        lines.append(line)

    header = [rows, *results.domains]
    if with_mean:
        header.append("mean")
    when = " after each stage" if rows == "after" else ""
    title = f"{results.name}: mIoU in percent{when}, {statistics_title(statistics)}"
    return ResultTable(title, header, lines)


def _reason(entry: Mapping[str, object]) -> Cell:
    return UNLABELLED if entry.get("reason") == "unlabelled" else None


def classes_table(results: Results, statistics: str, row: int = -1) -> ResultTable:
    """IoU per class of every scored domain, of one row of the matrix."""
    step = results.steps[row]
    entries: dict[str, Mapping[str, Any]] = {}
    for domain, entry in step["scores"].get(statistics, {}).items():
        if "iou" in entry:
            entries[domain] = entry
    scored = {domain: entry["iou"] for domain, entry in entries.items()}
    # All domains are scored on the same classes.
    classes = list(next(iter(scored.values()), ()))
    rows: list[list[Cell]] = []
    for name in classes:
        # Without a value the domain has no label of the class, so that it cannot be scored.
        rows.append([name, *(_or_no_label(iou[name]) for iou in scored.values())])
    if entries:
        rows.append(["mean", *(entry["miou"] for entry in entries.values())])
        accuracies = [entry.get("pixel_accuracy") for entry in entries.values()]
        rows.append(["pixel accuracy", *accuracies])
    stage = row_titles(results.steps)[row]
    title = f"IoU in percent per class of {stage}, {statistics_title(statistics)}"
    return ResultTable(title, ["class", *scored], rows)


def _or_no_label(iou: float | None) -> Cell:
    return "no label" if iou is None else iou


def arms_table(arms: Mapping[str, Sequence[Results]], statistics: str) -> ResultTable:
    """A row per arm: final mIoU per domain, target average, forgetting.

    Mean and deviation over seeds.
    """
    first = next(iter(arms.values()))[0]
    rows: list[list[Cell]] = []
    for name, runs in arms.items():
        # Runs may have met the domains in another order.
        final_rows = [run.matrix(statistics, first.domains)[-1] for run in runs]
        summaries = [run.summary(statistics) for run in runs]
        line: list[Cell] = [arm_title(name, runs)]
        # One column per domain, its values one per seed.
        for values in zip(*final_rows, strict=True):
            line.append(spread(values))
        line.append(spread([summary.average for summary in summaries]))
        line.append(spread([summary.forgetting for summary in summaries]))
        rows.append(line)
    title = f"After the last step, {statistics_title(statistics)} (mIoU in percent)"
    return ResultTable(title, ["arm", *first.domains, "target average", "forgetting"], rows)


def change_table(rows: Sequence[Mapping[str, Any]], statistics: str) -> ResultTable:
    """What an adaptation changed, by domain, as far as it can be measured without labels.

    Args:
        rows: of ``change.json``.
        statistics: the normalisation statistics; rows of others are left out.
    """
    lines: list[list[Cell]] = []
    for row in rows:
        if row["statistics"] != statistics:
            continue
        # Measures that need statistics which a network lacks were not recorded.
        measures = [row.get(key) for key in CHANGES]
        lines.append([row["domain"], str(row["images"]), *measures])
    header = ["domain", "images", *(key.replace("_", " ") for key in CHANGES)]
    title = (
        "Old and new network on every domain, no labels, in percent,"
        f" {statistics_title(statistics)}"
    )
    return ResultTable(title, header, lines)
