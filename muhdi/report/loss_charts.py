"""Charts of a run's losses over its iterations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from muhdi.report.charts import Chart, Line, Point
from muhdi.report.run_files import RunData


def iterations(run: RunData) -> list[int]:
    """Iterations of every stage, as the recipe asks for them."""
    return [stage.config.iterations for stage in run.recipe.stages()]


def loss_charts(run: RunData) -> list[tuple[str, Chart]]:
    """A chart for every loss, over the iterations of all stages."""
    ends = list(accumulate(iterations(run)))
    lines: dict[str, list[Point]] = {}
    for start, entry in _with_starts(run, ends):
        at = float(start + entry["iteration"])
        for name, value in entry.items():
            if name not in ("stage", "iteration") and isinstance(value, (int, float)):
                lines.setdefault(name, []).append((at, float(value)))
    return [(name, _chart(name, points, ends)) for name, points in lines.items()]


def _chart(name: str, points: Sequence[Point], ends: Sequence[int]) -> Chart:
    first = points[0][0]
    last = points[-1][0]
    # A loss of some stages alone gets the ticks and borders of those stages.
    ticks = []
    for at in sorted({0, *ends}):
        if first <= at <= last:
            ticks.append((float(at), str(at)))
    if not ticks:
        ticks = [(last, f"{last:g}")]
    return Chart(
        f"{name} over iterations",
        [Line(name, points)],
        ticks,
        # The last end is the end of the run, no border between stages.
        borders=[float(at) for at in ends[:-1] if first < at < last],
        zero=True,
        size=(320, 170),
    )


def _with_starts(run: RunData, ends: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of the metrics, each with the iterations before its stage.

    Lines name their stage by its domain, which may be visited twice: a new stage begins where the
    name changes, or where the iterations begin again.
    """
    starts = [0, *ends]
    stage = 0
    iteration = 0
    for entry in run.metrics:
        if entry["stage"] != run.stages[stage] or entry["iteration"] <= iteration:
            if entry["stage"] not in run.stages[stage + 1 :]:
                continue
            stage = run.stages.index(entry["stage"], stage + 1)
        iteration = entry["iteration"]
        yield starts[stage], entry
