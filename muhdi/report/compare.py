"""Several runs next to each other.

Arms over seeds, their spread, and which differences are more than noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from muhdi.errors import MuhdiError, nearest
from muhdi.evaluation.results import Results, row_titles
from muhdi.recipe.orders import split_seed
from muhdi.report.charts import Chart, Line
from muhdi.report.page import legend, stage_ticks, viewer, write_page
from muhdi.report.result_table import (
    Cell,
    ResultTable,
    spread,
    statistics_title,
)
from muhdi.report.run_files import RunData, shared_statistics
from muhdi.report.significance import NOISE, Difference, against_reading, difference
from muhdi.report.tables import MEASURES, ONLY_OF_SOME, arms_table
from muhdi.report.unlike import unlike

GroupBy = Literal["arm", "run"]
GROUP_BY: tuple[GroupBy, ...] = get_args(GroupBy)

Arms = Mapping[str, Sequence[RunData]]
"""Runs by arm, each seed once, in the order of the seeds."""
Controls = Mapping[str, str]
"""The arm that each arm is compared with; one that is its own control is compared with none."""


def group(runs: Sequence[RunData], by: GroupBy) -> dict[str, list[RunData]]:
    """Runs by arm.

    Args:
        runs: finished, on the same domains.
        by: ``arm``: runs that are called alike but for ``_seed<number>`` are one arm; ``run``: each
            is one.

    Raises:
        MuhdiError: a run is not finished or on other domains, no statistics are those of all runs,
            or an arm holds a seed twice.
    """
    for run in runs:
        _check_comparable(run, runs[0])
    shared_statistics(runs)
    arms: dict[str, list[RunData]] = {}
    for run in runs:
        seed = run.recipe.seed
        name = split_seed(run.recipe)[0] if by == "arm" else run.recipe.name
        arm = arms.setdefault(name, [])
        if seed in _seeds(arm):
            raise MuhdiError(
                f"{run.folder}: there are two runs of {name!r} with seed {seed}; give one of them"
            )
        arm.append(run)
    for arm in arms.values():
        arm.sort(key=lambda run: run.recipe.seed)
    return arms


def _check_comparable(run: RunData, first: RunData) -> None:
    """Refuse a run that is not finished, or on other domains than the first."""
    if not run.finished:
        raise MuhdiError(
            f"{run.folder}: only {len(run.results.steps)} of {len(run.stages)} stages are"
            " evaluated; finish it with muhdi train --resume"
        )
    # They may come in another order.
    same_domains = sorted(run.results.domains) == sorted(first.results.domains)
    if not same_domains or sorted(run.results.targets) != sorted(first.results.targets):
        raise MuhdiError(
            f"{run.folder}: its domains ({', '.join(run.results.domains)}) are not those of"
            f" {first.folder} ({', '.join(first.results.domains)}); compare runs of one benchmark"
        )


def _seeds(runs: Sequence[RunData]) -> list[int]:
    return [run.recipe.seed for run in runs]


def reference_arm(arms: Arms, against: str | None) -> str:
    """The arm that the others are compared with: the one asked for, or the first.

    Raises:
        MuhdiError: there is no such arm.
    """
    if against is None:
        return next(iter(arms))
    if against not in arms:
        raise MuhdiError(
            f"--against {against}: no such arm{nearest(against, list(arms))} (arms:"
            f" {', '.join(arms)})"
        )
    return against


def with_one(arms: Arms, against: str) -> dict[str, str]:
    """One arm as the control of all others."""
    return dict.fromkeys(arms, against)


# --- tables ---------------------------------------------------------------------------------------


def tables(arms: Arms, controls: Controls, statistics: str) -> list[ResultTable]:
    """Means and spreads, differences from the controls, and every seed."""
    results = results_by_arm(arms)
    return [
        arms_table(results, statistics),
        differences_table(results, controls, statistics),
        seeds_table(results, statistics),
    ]


def readings(arms: Arms, controls: Controls, statistics: str) -> list[str]:
    """A sentence for every arm but the controls: how it compares with its own."""
    sentences = []
    for arm, runs in arms.items():
        against = controls[arm]
        if arm != against:
            ours, others = _paired(_results(runs), _results(arms[against]))
            sentences.append(against_reading(arm, ours, against, others, statistics))
    return sentences


def _results(runs: Sequence[RunData]) -> list[Results]:
    return [run.results for run in runs]


def results_by_arm(arms: Arms) -> dict[str, list[Results]]:
    """The results of runs by arm."""
    return {arm: _results(runs) for arm, runs in arms.items()}


def differences_table(
    arms: Mapping[str, Sequence[Results]], controls: Controls, statistics: str
) -> ResultTable:
    """What every arm has more or less than its control (paired t test, 95 %).

    Over the seeds that both arms have.
    """
    rows: list[list[Cell]] = []
    for arm, runs in arms.items():
        against = controls[arm]
        if arm == against:
            continue
        ours, others = _paired(runs, arms[against])
        average = difference(ours, others, statistics, "average")
        forgetting = difference(ours, others, statistics, "forgetting")
        row: list[Cell] = [arm, str(len(ours))]
        row += _difference_cells(average, "higher", "lower")
        row += _difference_cells(forgetting, "more", "less")
        rows.append(row)
    header = ["arm", "seeds", "target average", "reading", "forgetting", "reading of it"]
    names = set(controls.values())
    control = names.pop() if len(names) == 1 else "the controls"
    title = (
        f"Differences from {control} in points of mIoU with their 95 % interval,"
        f" {statistics_title(statistics)}"
    )
    return ResultTable(title, header, rows)


def _paired(
    runs: Sequence[Results], others: Sequence[Results]
) -> tuple[list[Results], list[Results]]:
    """The runs of two arms with a seed that both have.

    Both arms are in the order of their seeds, so that what is left pairs up.
    """
    shared = {run.seed for run in runs} & {run.seed for run in others}
    return (
        [run for run in runs if run.seed in shared],
        [run for run in others if run.seed in shared],
    )


def _difference_cells(found: Difference | None, up: str, down: str) -> list[Cell]:
    """``+1.8 ± 0.9`` and what it means."""
    if found is None:
        return [None, "cannot be said"]
    meaning = "within the noise"
    if found.counts:
        meaning = up if found.mean > 0 else down
    if found.error is None:
        return [f"{found.mean:+.1f}", "one seed, no test"]
    return [f"{found.mean:+.1f} ± {found.error:.1f}", meaning]


def seeds_table(arms: Mapping[str, Sequence[Results]], statistics: str) -> ResultTable:
    """The summary of every run."""
    summaries: dict[tuple[str, int], dict[str, float | None]] = {}
    for arm, runs in arms.items():
        for run in runs:
            summaries[arm, run.seed] = vars(run.summary(statistics))
    names = dict(MEASURES)
    for key in ONLY_OF_SOME:
        if all(summary[key] is None for summary in summaries.values()):
            del names[key]
    rows: list[list[Cell]] = []
    for (arm, seed), summary in summaries.items():
        rows.append([arm, str(seed), *(summary[key] for key in names)])
    header = ["arm", "seed", *names.values()]
    title = f"Every run, {statistics_title(statistics)} (points of mIoU)"
    return ResultTable(title, header, rows)


# --- the page -------------------------------------------------------------------------------------

PAIRED = (
    f"Paired over the seeds that both arms have. A difference is within the noise unless it exceeds"
    f" {NOISE} points, below which validation sets of this size show nothing,"
)
"""How a page says that differences are judged; what is significant follows."""


@dataclass(frozen=True)
class Findings:
    """What a comparison finds with one choice of statistics.

    Attributes:
        readings: sentences.
        means: tables of means and spreads.
        differences: what every arm has more or less than its control.
        hint: how differences are judged.
    """

    readings: list[str]
    means: list[ResultTable]
    differences: list[ResultTable]
    hint: str


def each_alone(arms: Arms, controls: Controls, statistics: str) -> Findings:
    """The findings of a comparison in which every difference is judged by itself."""
    means, differences, _ = tables(arms, controls, statistics)
    hint = f"{PAIRED} and its 95 % interval excludes 0."
    if len(arms) > 2:
        hint += " With many arms, one of twenty such intervals errs."
    return Findings(readings(arms, controls, statistics), [means], [differences], hint)


def domain_charts(arms: Arms, statistics: str) -> list[tuple[str, Chart]]:
    """A chart for every domain.

    Its mIoU after each stage, one line per arm, with deviations over seeds.
    """
    first = next(iter(arms.values()))[0].results
    names = _stage_titles(arms)
    # One step is a point, not a line.
    if len(names) < 2:
        return []
    charts = []
    for domain in first.domains:
        lines = []
        for number, (arm, runs) in enumerate(arms.items()):
            line = _arm_line(arm, runs, domain, statistics)
            if line is not None and arm not in with_other_steps(arms):
                # The key numbers all arms, also those without a line here.
                lines.append(replace(line, colour=number))
        if not lines:
            continue
        chart = Chart(
            f"{domain}: mIoU in percent after each stage, {statistics_title(statistics)}",
            lines,
            stage_ticks(names),
            dots=True,
            keyed=True,
            size=(430, 230),
        )
        charts.append((domain, chart))
    return charts


def with_other_steps(arms: Arms) -> list[str]:
    """The arms whose steps are not those of the first, in any order: no chart can hold both."""
    sequences = {}
    for arm, runs in arms.items():
        sequences[arm] = [sorted(_steps_of(run)) for run in runs]
    first = next(iter(sequences.values()))[0]
    return [arm for arm, found in sequences.items() if any(names != first for names in found)]


def _stage_titles(arms: Arms) -> list[str]:
    """What charts call the stages: their numbers where targets come in another order elsewhere."""
    left_out = with_other_steps(arms)
    runs = [run for arm, runs in arms.items() if arm not in left_out for run in runs]
    first = runs[0]
    if all(_steps_of(run) == _steps_of(first) for run in runs):
        return row_titles(first.results.steps)
    names = _steps_of(first)
    return [names[0], *(f"step {number}" for number in range(1, len(names)))]


def _steps_of(run: RunData) -> list[str]:
    """Names of the stages."""
    return [step["name"] for step in run.results.steps]


def _arm_line(arm: str, runs: Sequence[RunData], domain: str, statistics: str) -> Line | None:
    """Mean mIoU of a domain after each stage over the seeds of an arm; None where there is none."""
    columns = []
    for run in runs:
        columns.append([row[0] for row in run.results.matrix(statistics, [domain])])
    if len({len(column) for column in columns}) > 1:
        return None
    points = []
    deviations = []
    for step, values in enumerate(zip(*columns, strict=True)):
        found = spread(values)
        if found is not None:
            points.append((float(step), found.mean))
            deviations.append(found.deviation)
    return Line(arm, points, deviations) if points else None


def write_comparison(out: Path, arms: Arms, found: Callable[[str], Findings]) -> Path:
    """Write the page of a comparison; its images are those of a seed that all arms have.

    Args:
        out: the page.
        arms: that are compared.
        found: the findings with a choice of statistics.
    """
    runs: list[RunData] = []
    for arm_runs in arms.values():
        runs += arm_runs
    statistics = shared_statistics(runs)
    seed = _shared_seed(arms)
    return write_page(
        out,
        "compare.html.j2",
        title=" / ".join(arms) if len(arms) < 4 else f"{len(arms)} arms",
        arms={arm: _seeds(arm_runs) for arm, arm_runs in arms.items()},
        all_statistics=statistics,
        findings={each: found(each) for each in statistics},
        every_run={each: seeds_table(results_by_arm(arms), each) for each in statistics},
        charts={each: domain_charts(arms, each) for each in statistics},
        left_out=with_other_steps(arms),
        viewer=_viewer_of(arms, seed, statistics),
        seed=seed,
        legend=legend(runs[0].recipe.class_set()),
        unlike=unlike(runs),
    )


def _shared_seed(arms: Arms) -> int | None:
    """The smallest seed that every arm has."""
    shared = set.intersection(*(set(_seeds(runs)) for runs in arms.values()))
    return min(shared, default=None)


def _viewer_of(arms: Arms, seed: int | None, statistics: Sequence[str]) -> dict[str, Any]:
    """The images of the runs with one seed, so that they differ by the arm alone."""
    shown = {}
    for arm, runs in arms.items():
        for run in runs:
            if run.recipe.seed == seed:
                shown[arm] = run
    return viewer(shown, statistics)
