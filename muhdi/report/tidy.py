"""Scores for other programs: one value a row, the same columns for every run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from muhdi.errors import RecipeError
from muhdi.evaluation.results import Results, row_titles
from muhdi.files import check_target, write_json, write_text

COLUMNS = (
    "run",
    "seed",
    "step",
    "stage",
    "domain",
    "statistics",
    "weights",
    "views",
    "class",
    "iou",
    "iterations",
)
MEAN = "mean"
"""The ``class`` of rows that hold a domain's mIoU, in whose mean absent classes do not count."""
ENDINGS = (".csv", ".json")

TidyRow = dict[str, str | int | float | None]
"""A value by column.

* ``stage``: what tables call the step, with the labels of its target that took part, and whether it
  had no source: ``city, 8 labels``. Of networks that were scored, their names.
* ``weights``: ``model``, ``ema`` where the average of the weights was scored, or ``teacher``.
* ``views``: what the softmax was averaged over, in words; empty where every image was looked at
  once, and in results of versions that do not say it.
* ``iou``: in percent; None where there is none.
* ``iterations``: of a score within a step (`evaluation.every`), those of the step so far; None at
  its end.

Rows without a ``domain`` are measures over all targets after the last step, in points of mIoU;
``class`` says which, a name of `muhdi.evaluation.metrics.Summary`.
"""


def tidy_rows(runs: Sequence[Results], *, sequence: bool = True) -> list[TidyRow]:
    """A row for every run, step, domain, choice of statistics and class, and one for the mean.

    A class that no label of a domain holds has no IoU, and neither has the mean of a domain
    without labels. Means within the steps follow where there are any, and at last the measures of
    the sequence, as far as they are known.

    Args:
        runs: whose scores are wanted.
        sequence: whether their rows are the steps of a sequence; else they are networks, of which
            nothing can be summarised.
    """
    rows: list[TidyRow] = []
    for run in runs:
        for step, title in zip(run.steps, row_titles(run.steps), strict=True):
            stage = (step["step"], title)
            rows += _scores(run, stage, step["scores"])
            for point in step.get("curve", []):
                rows += _scores(run, stage, point["scores"], point["iterations"])
        if sequence:
            rows += _measures(run)
    return rows


def _scores(
    run: Results, stage: tuple[int, str], scores: Mapping[str, Any], iterations: int | None = None
) -> Iterator[TidyRow]:
    """Rows of one evaluation of all domains, after a stage of this number and title."""
    for statistics, by_domain in scores.items():
        for domain, entry in by_domain.items():
            for name, iou in {**entry.get("iou", {}), MEAN: entry["miou"]}.items():
                place = (run.name, run.seed, *stage, domain, statistics)
                how = (run.scored_weights, _views(run, domain))
                yield dict(zip(COLUMNS, (*place, *how, name, iou, iterations), strict=True))


def _measures(run: Results) -> Iterator[TidyRow]:
    """Rows of the summaries after the last step."""
    for statistics in run.statistics:
        for name, value in vars(run.summary(statistics)).items():
            if value is not None:
                place = (run.name, run.seed, len(run.steps) - 1, "", "", statistics)
                how = (run.scored_weights, "", name)
                yield dict(zip(COLUMNS, (*place, *how, value, None), strict=True))


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


def write_scores(path: Path, runs: Sequence[Results], *, sequence: bool = True) -> None:
    """Write `tidy_rows` as CSV or as a JSON list, as the file's ending says."""
    rows = tidy_rows(runs, sequence=sequence)
    if path.suffix.lower() == ".json":
        write_json(path, rows)
        return
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
