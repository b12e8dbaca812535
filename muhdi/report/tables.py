"""Tables of results, and what one may say about them in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from muhdi.evaluation.results import Results
from muhdi.report.result_table import Cell, ResultTable, spread, text


def matrix_table(results: Results, kind: str, rows: str = "after") -> ResultTable:
    """R[step][domain] of one run; of other rows, such as networks, also their mean.

    ``rows`` heads their names.
    """
    after = " after each step" if rows == "after" else ""
    mean_too = rows != "after" and len(results.domains) > 1
    lines: list[list[Cell]] = []
    for step, row in zip(results.steps, results.matrix(kind), strict=True):
        cells: list[Cell] = [
            value if value is not None else _reason(step["scores"].get(kind, {}).get(domain, {}))
            for domain, value in zip(results.domains, row, strict=True)
        ]
        known = [value for value in row if value is not None]
        average: list[Cell] = [mean(known) if known else None] if mean_too else []
        lines.append([step["name"], *cells, *average])
    header = [rows, *results.domains, *(["mean"] if mean_too else [])]
    return ResultTable(f"{results.name}: mIoU in percent{after}, {kind} statistics", header, lines)


def _reason(entry: Mapping[str, object]) -> Cell:
    return "unlabelled" if entry.get("reason") == "unlabelled" else None


def classes_table(results: Results, kind: str, row: int = -1) -> ResultTable:
    """IoU per class of every scored domain, of one row of the matrix."""
    step = results.steps[row]
    scored = {d: e for d, e in step["scores"].get(kind, {}).items() if e["miou"] is not None}
    names = next(iter(scored.values()))["iou"] if scored else ()
    rows = [[name, *(entry["iou"][name] for entry in scored.values())] for name in names]
    return ResultTable(
        f"IoU in percent per class of {step['name']}, {kind} statistics", ["class", *scored], rows
    )


def summary_line(results: Results, kind: str) -> str:
    """Average target mIoU and forgetting of one run."""
    summary = results.summary(kind)
    return (
        f"{kind} statistics: average target mIoU {text(summary.average)}, forgetting"
        f" {text(summary.forgetting)}, backward transfer {text(summary.backward)}, forward transfer"
        f" {text(summary.forward)}"
    )


def arms_table(arms: Mapping[str, Sequence[Results]], kind: str) -> ResultTable:
    """A row per arm: final mIoU per domain, target average, forgetting.

    Mean and deviation over seeds.
    """
    first = next(iter(arms.values()))[0]
    rows: list[list[Cell]] = []
    for name, runs in arms.items():
        finals = [run.matrix(kind)[-1] for run in runs]
        summaries = [run.summary(kind) for run in runs]
        cells = [spread(column) for column in zip(*finals, strict=True)]
        rows.append(
            [
                name,
                *cells,
                spread([s.average for s in summaries]),
                spread([s.forgetting for s in summaries]),
            ]
        )
    title = f"After the last step, {kind} statistics (mIoU in percent)"
    return ResultTable(title, ["arm", *first.domains, "target average", "forgetting"], rows)


def change_table(rows: Sequence[Mapping[str, Any]], kind: str) -> ResultTable:
    """What an adaptation changed that needs no labels, by domain, with one kind of statistics."""
    keys = ("confidence_before", "confidence_after", "entropy_before", "entropy_after", "agreement")
    lines: list[list[Cell]] = [
        [row["domain"], str(row["images"]), *(row.get(key) for key in keys)]
        for row in rows
        if row["statistics"] == kind
    ]
    header = ["domain", "images", *(key.replace("_", " ") for key in keys)]
    return ResultTable(
        f"Old and new network on every domain, no labels, in percent, {kind} statistics",
        header,
        lines,
    )
