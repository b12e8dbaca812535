"""Charts of the scores within the steps of a run."""

from __future__ import annotations

from muhdi.evaluation.curves import curve, step_starts
from muhdi.report.charts import Chart, Line, Point
from muhdi.report.result_table import statistics_title
from muhdi.report.run_files import RunData

FEW = 60
"""Points of all lines together that are marked by dots."""


def curve_chart(run: RunData, statistics: str) -> Chart | None:
    """The mIoU of every domain over the iterations since the first step began.

    None where no domain has two scores.
    """
    steps = run.results.steps
    lines = []
    for domain in run.results.domains:
        points: list[Point] = [(float(x), y) for x, y in curve(steps, statistics, domain)]
        if len(points) > 1:
            lines.append(Line(domain, points))
    if not lines:
        return None
    starts = step_starts(steps)
    end = starts[-1] + steps[-1]["iterations"]
    ends = [float(at) for at in sorted({*starts, end})]
    return Chart(
        f"mIoU in percent over the iterations of the steps, {statistics_title(statistics)}",
        lines,
        [(at, f"{at:g}") for at in ends],
        borders=ends[1:-1],
        dots=sum(len(line.points) for line in lines) <= FEW,
        size=(640, 260),
    )
