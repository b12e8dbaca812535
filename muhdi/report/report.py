"""``report.html`` of one run.

Everything that its directory holds, in one file that needs no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from muhdi.evaluation.curves import has_curves
from muhdi.evaluation.results import Results, row_titles
from muhdi.report.charts import Chart, Line, Point
from muhdi.report.curve_charts import curve_chart
from muhdi.report.facts import facts
from muhdi.report.heat_maps import class_map, confusion_map, forgetting_table, matrix_map
from muhdi.report.helped import helped
from muhdi.report.kept import kept_table
from muhdi.report.labelled import labelled_lines
from muhdi.report.loss_charts import loss_charts
from muhdi.report.page import HeatMap, legend, stage_ticks, viewer, write_page
from muhdi.report.ranking import Ranking, ranking
from muhdi.report.result_table import ResultTable, statistics_title
from muhdi.report.run_files import RunData, read_run
from muhdi.report.selected import remark_lines, selected_lines
from muhdi.report.significance import NOISE
from muhdi.report.tables import MEASURES, change_table

FILE = "report.html"

SUMMARY = {**MEASURES, "average": "average target mIoU"}
"""Attributes of a summary, and what the page calls them."""

Made = TypeVar("Made")


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        folder: the run's directory.
        out: the file; None: ``report.html`` in the directory.

    Raises:
        MuhdiError: the folder is not a run directory, or nothing was evaluated yet.
    """
    run = read_run(folder)
    results = run.results
    all_statistics = results.main_statistics_first

    images = viewer({run.recipe.name: run}, all_statistics)

    def each(make: Callable[[RunData, str], Made]) -> dict[str, Made]:
        """What is made of the run, with each of its statistics."""
        return {statistics: make(run, statistics) for statistics in all_statistics}

    return write_page(
        folder / FILE if out is None else out,
        "report.html.j2",
        title=run.recipe.name,
        run=run,
        results=results,
        all_statistics=all_statistics,
        noise=NOISE,
        helped={name: helped(run, name, images) for name in all_statistics},
        summary=SUMMARY,
        summaries=each(_summary),
        matrices=each(matrix_map),
        curves=each(_score_chart),
        within=each(curve_chart) if has_curves(results.steps) else {},
        forgetting=each(forgetting_table),
        per_class=each(_class_maps),
        confusion=each(_confusion_maps),
        labelled=labelled_lines(results),
        selected=[*selected_lines(results), *remark_lines(results)],
        ranking=_rankings(results, all_statistics),
        change=each(_change_table) if run.change else {},
        losses=loss_charts(run),
        viewer=images,
        legend=legend(run.recipe.class_set()),
        facts=facts(run),
        kept=kept_table(results),
    )


def _summary(run: RunData, statistics: str) -> dict[str, float | None]:
    return vars(run.results.summary(statistics))


def _rankings(results: Results, all_statistics: Sequence[str]) -> dict[str, Ranking]:
    """How scores without labels rank the networks, with the statistics that can tell."""
    found = {statistics: ranking(results, statistics) for statistics in all_statistics}
    return {statistics: one for statistics, one in found.items() if one is not None}


def _change_table(run: RunData, statistics: str) -> ResultTable:
    """What the steps changed, measured without labels."""
    return change_table(run.change, statistics)


def _class_maps(run: RunData, statistics: str) -> dict[str, HeatMap]:
    """IoU per class of every domain that was scored."""
    return _by_domain(class_map, run, statistics)


def _confusion_maps(run: RunData, statistics: str) -> dict[str, HeatMap]:
    """The confusion matrix of every domain that has one."""
    return _by_domain(confusion_map, run, statistics)


def _by_domain(
    make: Callable[[RunData, str, str], HeatMap | None], run: RunData, statistics: str
) -> dict[str, HeatMap]:
    """The maps of the domains that have one."""
    maps = {}
    for domain in run.results.domains:
        found = make(run, statistics, domain)
        if found is not None:
            maps[domain] = found
    return maps


def _score_chart(run: RunData, statistics: str) -> Chart | None:
    """Scores of every domain after every stage; None where there is nothing to join by a line."""
    results = run.results
    if len(results.steps) < 2:
        return None
    lines = []
    for domain in results.domains:
        points: list[Point] = []
        for step, (value,) in enumerate(results.matrix(statistics, [domain])):
            if value is not None:
                points.append((float(step), value))
        if points:
            lines.append(Line(domain, points))
    if not lines:
        return None
    return Chart(
        f"mIoU in percent after each stage, {statistics_title(statistics)}",
        lines,
        stage_ticks(row_titles(results.steps)),
        dots=True,
        size=(520, 250),
    )
