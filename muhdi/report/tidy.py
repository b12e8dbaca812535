"""Scores for other programs: one value a row, the same columns for every run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results
from muhdi.files import check_target, write_json, write_text

COLUMNS = ("run", "seed", "step", "domain", "statistics", "class", "iou")
MEAN = "mean"
"""The ``class`` of rows that hold a domain's mIoU, in whose mean absent classes do not count."""
ENDINGS = (".csv", ".json")

TidyRow = dict[str, str | int | float | None]
"""A value by column. ``iou`` is in percent; None where there is none."""


def tidy_rows(runs: Sequence[Results]) -> list[TidyRow]:
    """A row for every run, step, domain, choice of statistics and class, and one for the mean.

    A class that no label of a domain holds has no IoU, and neither has the mean of a domain
    without labels.
    """
    rows: list[TidyRow] = []
    for run in runs:
        for step in run.steps:
            for statistics, by_domain in step["scores"].items():
                for domain, entry in by_domain.items():
                    values = {**entry.get("iou", {}), MEAN: entry["miou"]}
                    for name, iou in values.items():
                        place = (run.name, run.seed, step["step"], domain, statistics)
                        rows.append(dict(zip(COLUMNS, (*place, name, iou), strict=True)))
    return rows


def check_scores_file(path: Path) -> None:
    """Refuse a file that `write_scores` cannot write, before anything is computed.

    Raises:
        RecipeError: its ending is not .csv or .json.
        MuhdiError: it is not a regular file.
    """
    if path.suffix.lower() not in ENDINGS:
        raise RecipeError(f"--scores {path}: must end in {' or '.join(ENDINGS)}")
    check_target(path)


def write_scores(path: Path, runs: Sequence[Results]) -> None:
    """Write `tidy_rows` as CSV or as a JSON list, as the file's ending says."""
    rows = tidy_rows(runs)
    if path.suffix.lower() == ".json":
        write_json(path, rows)
        return
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
