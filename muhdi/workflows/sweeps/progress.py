"""How far the runs of a sweep are, from what they have written."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.files import read_json
from muhdi.recipe.orders import split_seed
from muhdi.report.board import Board, RunState
from muhdi.run.directory import RunDirectory
from muhdi.workflows.sweeps.plan import Run, SweepPlan

_LONGEST_LINE = 65536
"""Bytes at the end of a record in which its last line is looked for."""


@dataclass(frozen=True)
class Watched:
    """A run whose images are counted.

    Attributes:
        directory: of the run.
        stages: name, iterations, and images per iteration of each stage.
    """

    directory: RunDirectory
    stages: list[tuple[str, int, int]]

    @classmethod
    def of(cls, run: Run) -> Watched:
        """The stages of a run."""
        stages = []
        for stage in run.recipe.stages():
            stages.append((stage.name, stage.config.iterations, stage.config.images))
        return cls(run.directory, stages)

    @property
    def total(self) -> int:
        """Images of the whole run."""
        return sum(iterations * images for _, iterations, images in self.stages)

    def done(self) -> int:
        """Images of the iterations that the run has recorded."""
        if self.directory.samples.exists():
            return self.total
        last = _last_line(self.directory.metrics)
        if last is None:
            return 0
        evaluated = _evaluated(self.directory.results)
        # A target may come back, so that two stages have its name. The last line is of the stage
        # after those that are evaluated, or of the last of these.
        for number in (evaluated, evaluated - 1):
            if 0 <= number < len(self.stages) and self.stages[number][0] == last.get("stage"):
                before = sum(count * images for _, count, images in self.stages[:number])
                return before + int(last["iteration"]) * self.stages[number][2]
        return 0


def _evaluated(path: Path) -> int:
    """Stages that a run has evaluated, from its results."""
    try:
        return len(read_json(path)["steps"])
    except (MuhdiError, OSError, KeyError, TypeError):
        return 0


def _last_line(path: Path) -> dict[str, Any] | None:
    """The last whole line of a record; None if there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(path.stat().st_size - _LONGEST_LINE, 0))
            lines = file.read().split(b"\n")
        return dict(json.loads(lines[-2])) if len(lines) > 1 else None
    except (OSError, ValueError):
        return None


class Watch:
    """Looks at all runs of a sweep.

    Args:
        plan: of the sweep.
    """

    def __init__(self, plan: SweepPlan) -> None:
        self._rows = _rows(plan)
        self._watched = {run.name: Watched.of(run) for run in plan.runs}
        self._scores: dict[str, float | None] = {}

    def board(
        self, training: Container[str], done: Container[str], failures: Mapping[str, str]
    ) -> Board:
        """How far the runs are.

        Args:
            training: names of the runs that are at work.
            done: of those that have ended.
            failures: why others have failed.
        """
        images = {}
        for name, watched in self._watched.items():
            images[name] = watched.total if name in done else watched.done()
        rows: dict[str, dict[int, RunState]] = {}
        for row, runs in self._rows.items():
            rows[row] = {}
            for run in runs:
                if run.name in failures:
                    state = RunState("failed")
                elif run.name in done:
                    state = RunState("done", 100, self._score(run))
                elif run.name in training:
                    state = RunState("training", self._percent(run, images[run.name]))
                else:
                    state = RunState("waiting")
                rows[row][run.recipe.seed] = state
        total = sum(watched.total for watched in self._watched.values())
        return Board(rows, sum(images.values()), total, failures)

    def _percent(self, run: Run, images: int) -> int:
        # An untrained network is only evaluated.
        return 100 * images // max(self._watched[run.name].total, 1)

    def _score(self, run: Run) -> float | None:
        """The target average of a run that is done; a source alone has none."""
        if run.name not in self._scores:
            results = Results.load(run.directory.folder)
            self._scores[run.name] = results.summary(results.main_statistics).average
        return self._scores[run.name]


def _rows(plan: SweepPlan) -> dict[str, list[Run]]:
    """Runs by the row of the board; recipes with different sources have several for these."""
    rows: dict[str, list[Run]] = {}
    for run in plan.sources:
        number = 1
        while run.recipe.seed in [other.recipe.seed for other in rows.get(_row(number), [])]:
            number += 1
        rows.setdefault(_row(number), []).append(run)
    return rows | {split_seed(runs[0].recipe)[0]: runs for runs in plan.arms.values()}


def _row(number: int) -> str:
    return "(source)" if number == 1 else f"(source {number})"
