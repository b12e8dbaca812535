"""Several runs beside each other.

Arms over seeds, their spread, and which differences are more than noise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Literal, get_args

from muhdi.errors import MuhdiError, nearest
from muhdi.evaluation.results import Results
from muhdi.report.charts import Chart, Line
from muhdi.report.page import legend, stage_ticks, viewer, write_page
from muhdi.report.result_table import Cell, ResultTable, spread
from muhdi.report.run_files import RunData, shared_kinds
from muhdi.report.significance import NOISE, Difference, difference
from muhdi.report.tables import arms_table

GroupBy = Literal["arm", "run"]
GROUP_BY: tuple[GroupBy, ...] = get_args(GroupBy)

Arms = Mapping[str, Sequence[RunData]]
"""Runs by arm, each seed once, in the order of the seeds."""


def group(runs: Sequence[RunData], by: GroupBy) -> dict[str, list[RunData]]:
    """Runs by arm.

    Args:
        runs: finished, on the same domains.
        by: ``arm``: runs that are called alike but for ``_seed<number>`` are one arm; ``run``: each
            is one.

    Raises:
        MuhdiError: a run is not finished or on other domains, or an arm holds a seed twice.
    """
    first = runs[0].results
    for run in runs:
        if not run.finished:
            raise MuhdiError(
                f"{run.folder}: only {len(run.results.steps)} of {len(run.stages)} stages are"
                " evaluated; finish it with muhdi train --resume"
            )
        if run.results.domains != first.domains or run.results.targets != first.targets:
            raise MuhdiError(
                f"{run.folder}: its domains ({', '.join(run.results.domains)}) are not those of"
                f" {runs[0].folder} ({', '.join(first.domains)}); compare runs of one benchmark"
            )
    arms: dict[str, list[RunData]] = {}
    for run in runs:
        name = run.recipe.name
        arm = re.sub(rf"_seed{run.recipe.seed}$", "", name) if by == "arm" else name
        known = arms.setdefault(arm, [])
        if any(other.recipe.seed == run.recipe.seed for other in known):
            raise MuhdiError(
                f"{run.folder}: there are two runs of {arm!r} with seed {run.recipe.seed}; give one"
                " of them"
            )
        known.append(run)
    return {arm: sorted(known, key=lambda run: run.recipe.seed) for arm, known in arms.items()}


def reference_arm(arms: Arms, against: str | None) -> str:
    """The arm that the others are compared with: the one asked for, or the first."""
    if against is None:
        return next(iter(arms))
    if against not in arms:
        raise MuhdiError(
            f"--against {against}: no such arm{nearest(against, list(arms))} (arms:"
            f" {', '.join(arms)})"
        )
    return against


def tables(arms: Arms, against: str, kind: str) -> list[ResultTable]:
    """Means, spreads, differences from the arm ``against``, and every seed, for one statistics."""
    results = {arm: [run.results for run in runs] for arm, runs in arms.items()}
    return [
        arms_table(results, kind),
        differences_table(results, against, kind),
        seeds_table(results, kind),
    ]


def differences_table(
    arms: Mapping[str, Sequence[Results]], against: str, kind: str
) -> ResultTable:
    """Each arm minus one of them, over the seeds that both have (paired t test, 95 %)."""
    rows: list[list[Cell]] = []
    for arm, runs in arms.items():
        if arm == against:
            continue
        seeds = [run.seed for run in runs if any(run.seed == other.seed for other in arms[against])]
        ours, others = (
            [run for run in some if run.seed in seeds] for some in (runs, arms[against])
        )
        average, forgetting = (
            difference(ours, others, kind, what) for what in ("average", "forgetting")
        )
        rows.append(
            [
                arm,
                str(len(seeds)),
                *_words(average, "higher", "lower"),
                *_words(forgetting, "more", "less"),
            ]
        )
    header = ["arm", "seeds", "target average", "reading", "forgetting", "reading of it"]
    title = (
        f"Differences from {against} in points of mIoU with their 95 % interval, {kind} statistics"
    )
    return ResultTable(title, header, rows)


def _words(found: Difference | None, up: str, down: str) -> list[Cell]:
    """``+1.8 ± 0.9`` and what it means."""
    if found is None:
        return [None, "cannot be said"]
    error = "" if found.error is None else f" ± {found.error:.1f}"
    meaning = (up if found.mean > 0 else down) if found.counts else "within the noise"
    return [
        f"{found.mean:+.1f}{error}",
        meaning if found.error is not None else f"{meaning} (one seed)",
    ]


def seeds_table(arms: Mapping[str, Sequence[Results]], kind: str) -> ResultTable:
    """Target average and forgetting of every run."""
    rows: list[list[Cell]] = []
    for arm, runs in arms.items():
        for run in runs:
            summary = run.summary(kind)
            rows.append(
                [
                    arm,
                    str(run.seed),
                    summary.average,
                    summary.forgetting,
                    summary.backward,
                    summary.forward,
                ]
            )
    header = [
        "arm",
        "seed",
        "target average",
        "forgetting",
        "backward transfer",
        "forward transfer",
    ]
    return ResultTable(f"Every run, {kind} statistics (points of mIoU)", header, rows)


def domain_charts(arms: Arms, kind: str) -> list[tuple[str, Chart]]:
    """A chart for every domain.

    MIoU after each step, one line per arm, with deviations over seeds.
    """
    first = next(iter(arms.values()))[0].results
    names = [step["name"] for step in first.steps]
    charts = []
    for domain in first.domains:
        lines = []
        for arm, runs in arms.items():
            columns = [[row[0] for row in run.results.matrix(kind, [domain])] for run in runs]
            if any(len(column) != len(names) for column in columns):
                continue
            values = list(zip(*columns, strict=True))
            known = [(step, list(v)) for step, v in enumerate(values) if spread(v) is not None]
            points = [(float(step), mean(x for x in v if x is not None)) for step, v in known]
            deviations = [
                stdev(x for x in v if x is not None) if len(v) > 1 else None for _, v in known
            ]
            if points:
                lines.append(Line(arm, points, deviations))
        if lines and len(names) > 1:
            title = f"{domain}: mIoU in percent after each step, {kind} statistics"
            charts.append(
                (
                    domain,
                    Chart(title, lines, stage_ticks(names), dots=True, keyed=True, size=(430, 230)),
                )
            )
    return charts


def write_comparison(out: Path, arms: Arms, against: str) -> Path:
    """Write the page of a comparison; its pictures are those of a seed that all arms have."""
    runs = [run for some in arms.values() for run in some]
    kinds = shared_kinds(runs)
    seeds = [{run.recipe.seed for run in some} for some in arms.values()]
    shared = sorted(set.intersection(*seeds))
    shown = (
        {
            arm: next(run for run in some if run.recipe.seed == shared[0])
            for arm, some in arms.items()
        }
        if shared
        else {}
    )
    return write_page(
        out,
        "compare.html.j2",
        title=" / ".join(arms) if len(arms) < 4 else f"{len(arms)} arms",
        arms={arm: [run.recipe.seed for run in some] for arm, some in arms.items()},
        kinds=kinds,
        noise=NOISE,
        tables={kind: tables(arms, against, kind) for kind in kinds},
        charts={kind: domain_charts(arms, kind) for kind in kinds},
        viewer=viewer(shown, kinds) if shown else {"domains": {}, "pictures": [], "layers": []},
        seed=shared[0] if shared else None,
        legend=legend(runs[0].recipe.class_set()),
    )
