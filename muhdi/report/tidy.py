"""Scores for other programs: one value a row, the same columns for every run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results
from muhdi.files import check_target, write_json, write_text

COLUMNS = ("run", "seed", "step", "domain", "statistics", "weights", "views", "class", "iou")
MEAN = "mean"
"""The ``class`` of rows that hold a domain's mIoU, in whose mean absent classes do not count."""
ENDINGS = (".csv", ".json")

TidyRow = dict[str, str | int | float | None]
"""A value by column.

* ``weights``: ``model``, or ``ema`` where the average of the weights was scored.
* ``views``: what the softmax was averaged over, in words; empty where every image was looked at
  once, and in results of versions that do not say it.
* ``iou``: in percent; None where there is none.
"""


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
                    place = (run.name, run.seed, step["step"], domain, statistics)
                    how = (run.scored_weights, _views(run, domain))
                    for name, iou in values.items():
                        rows.append(dict(zip(COLUMNS, (*place, *how, name, iou), strict=True)))
    return rows


def _views(run: Results, domain: str) -> str:
    return run.scored[domain].views if domain in run.scored else ""


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
