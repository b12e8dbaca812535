"""``report.html`` of one run.

Everything that its directory holds, in one file that needs no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muhdi.evaluation.metrics import Matrix
from muhdi.report.charts import Chart, Line, Point
from muhdi.report.page import (
    HeatCell,
    HeatMap,
    legend,
    percent_cell,
    stage_ticks,
    viewer,
    write_page,
)
from muhdi.report.result_table import Cell, ResultTable
from muhdi.report.run_files import RunData, read_run
from muhdi.report.tables import change_table, matrix_table

FILE = "report.html"

SUMMARY = {
    "average": "average target mIoU",
    "forgetting": "forgetting",
    "backward": "backward transfer",
    "forward": "forward transfer",
}
"""Attributes of a summary, and what they are called."""


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run; ``out``: to another file than ``report.html`` in its directory.

    Raises:
        MuhdiError: the folder is no run directory, or nothing was evaluated yet.
    """
    run = read_run(folder)
    kinds = run.results.kinds()
    return write_page(
        folder / FILE if out is None else out,
        "report.html.j2",
        title=run.recipe.name,
        run=run,
        results=run.results,
        kinds=kinds,
        summary=SUMMARY,
        summaries={kind: vars(run.results.summary(kind)) for kind in kinds},
        matrices={kind: matrix_map(run, kind) for kind in kinds},
        curves={kind: _score_chart(run, kind) for kind in kinds},
        forgetting={kind: forgetting_table(run, kind) for kind in kinds},
        per_class={
            kind: {d: m for d in run.results.domains if (m := class_map(run, kind, d))}
            for kind in kinds
        },
        confusion={
            kind: {d: m for d in run.results.domains if (m := confusion_map(run, kind, d))}
            for kind in kinds
        },
        change={kind: change_table(run.change, kind) for kind in kinds} if run.change else {},
        losses=loss_charts(run),
        viewer=viewer({run.recipe.name: run}, kinds),
        legend=legend(run.recipe.class_set()),
        facts=facts(run),
    )


def matrix_map(run: RunData, kind: str) -> HeatMap:
    """R[step][domain]: the step that adapted to a domain is marked, those before it are pale."""
    results = run.results
    learnt = dict(zip(results.targets, results.learnt, strict=True))
    table = matrix_table(results, kind)
    rows = []
    for number, (name, *cells) in enumerate(table.rows):
        marks = []
        for domain in results.domains:
            first = learnt.get(domain, 0) if len(results.steps) > 1 else 0
            marks.append("learnt" if number == first else "before" if number < first else "")
        rows.append((str(name), [percent_cell(c, m) for c, m in zip(cells, marks, strict=True)]))
    return HeatMap(table.title, table.header, rows)


def _score_chart(run: RunData, kind: str) -> Chart | None:
    """MIoU of every domain after every step."""
    results = run.results
    columns = zip(
        results.domains, _columns(results.matrix(kind), len(results.domains)), strict=True
    )
    lines = [
        Line(
            domain, [(float(step), value) for step, value in enumerate(column) if value is not None]
        )
        for domain, column in columns
    ]
    lines = [line for line in lines if line.points]
    if not lines or len(results.steps) < 2:
        return None
    ticks = stage_ticks([step["name"] for step in results.steps])
    return Chart(
        f"mIoU in percent after each step, {kind} statistics",
        lines,
        ticks,
        dots=True,
        size=(520, 250),
    )


def _columns(matrix: Matrix, count: int) -> list[list[float | None]]:
    return [[row[place] for row in matrix] for place in range(count)]


def forgetting_table(run: RunData, kind: str) -> ResultTable:
    """For every target: when it was learnt, at its best, at the end, and what was lost of it."""
    results = run.results
    rows: list[list[Cell]] = []
    for target, learnt in zip(results.targets, results.learnt, strict=True):
        column = [row[0] for row in results.matrix(kind, [target])]
        known = [value for value in column[learnt:] if value is not None]
        last = column[-1]
        lost = (
            max(known) - last if known and last is not None and learnt < len(column) - 1 else None
        )
        at_first = column[learnt] if learnt < len(column) else None
        rows.append([target, column[0], at_first, max(known, default=None), last, lost])
    header = ["target", "source only", "when learnt", "at its best", "at the end", "lost"]
    return ResultTable(f"mIoU of the targets in percent, {kind} statistics", header, rows)


def class_map(run: RunData, kind: str, domain: str) -> HeatMap | None:
    """IoU per class and step of one domain; None where it was never scored."""
    entries = [step["scores"][kind].get(domain, {}) for step in run.results.steps]
    names = next((list(entry["iou"]) for entry in entries if entry.get("iou")), None)
    if names is None:
        return None
    rows = [
        (name, [percent_cell(entry.get("iou", {}).get(name)) for entry in entries])
        for name in names
    ]
    header = ["class", *(step["name"] for step in run.results.steps)]
    return HeatMap(
        f"{domain}: IoU in percent per class after each step, {kind} statistics", header, rows
    )


def confusion_map(run: RunData, kind: str, domain: str) -> HeatMap | None:
    """Of each class's pixels, the percentage given to each class after the last step."""
    matrix = run.results.confusion.get(kind, {}).get(domain)
    if matrix is None:
        return None
    names, rows = run.recipe.class_set().classes, []
    for place, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        total = sum(counts)
        marks = ["learnt" if column == place else "" for column in range(len(counts))]
        shares = [100 * count / total if total else None for count in counts]
        rows.append(
            (name, [_share_cell(share, mark) for share, mark in zip(shares, marks, strict=True)])
        )
    title = (
        f"{domain}: of the pixels of each true class, percent predicted as each class, {kind}"
        " statistics"
    )
    return HeatMap(title, ["true \\ predicted", *names], rows)


def _share_cell(share: float | None, mark: str) -> HeatCell:
    words = "-" if share is None else "" if share < 0.5 else f"{share:.0f}"
    return HeatCell(words, None if share is None else share / 100, mark)


def loss_charts(run: RunData) -> list[tuple[str, Chart]]:
    """A chart for every loss, over the iterations of all stages."""
    points: dict[str, list[Point]] = {}
    for start, entry in _with_starts(run):
        for name, value in entry.items():
            if name not in ("stage", "iteration") and isinstance(value, (int, float)):
                points.setdefault(name, []).append(
                    (float(start + entry["iteration"]), float(value))
                )
    ticks = [(at, str(round(at))) for at in sorted({0.0, *map(float, _ends(run))})]
    charts = []
    for name, line in points.items():
        inside = [tick for tick in ticks if line[0][0] <= tick[0] <= line[-1][0]] or [
            (line[-1][0], f"{line[-1][0]:g}")
        ]
        borders = [at for at in _ends(run)[:-1] if line[0][0] < at < line[-1][0]]
        chart = Chart(
            f"{name} over iterations",
            [Line(name, line)],
            inside,
            borders,
            zero=True,
            size=(320, 170),
        )
        charts.append((name, chart))
    return charts


def _ends(run: RunData) -> list[int]:
    """Iterations of the whole run at the end of every stage."""
    counts = _counts(run)
    return [sum(counts[: number + 1]) for number in range(len(counts))]


def _with_starts(run: RunData) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of the metrics, each with the iterations before its stage.

    A domain may be visited twice.
    """
    starts = [0, *_ends(run)]
    stage, iteration = 0, 0
    for entry in run.metrics:
        if entry["stage"] != run.stages[stage] or entry["iteration"] <= iteration:
            later = [
                place
                for place in range(stage + 1, len(run.stages))
                if run.stages[place] == entry["stage"]
            ]
            if not later:
                continue
            stage = later[0]
        iteration = entry["iteration"]
        yield starts[stage], entry


def facts(run: RunData) -> list[tuple[str, str]]:
    """Seed, time, memory and versions, in words."""
    recipe, found = run.recipe, []
    found.append(("seed", str(recipe.seed)))
    found.append(
        ("network", f"{recipe.model.backbone}, {recipe.image_size[0]}x{recipe.image_size[1]}")
    )
    found.append(("stages", f"{len(run.results.steps)} of {len(run.stages)} evaluated"))
    found.append(
        ("iterations", ", ".join(f"{n} {c}" for n, c in zip(run.stages, _counts(run), strict=True)))
    )
    if not run.sittings:
        return [*found, ("time, memory, versions", "this run did not record them")]
    last = run.sittings[-1]
    seconds = sum(sitting["seconds"] for sitting in run.sittings)
    sittings = "" if len(run.sittings) == 1 else f" in {len(run.sittings)} sittings"
    found.append(("time", _duration(seconds) + sittings))
    found.append(
        ("memory, at most", f"{max(sitting['memory_mb'] for sitting in run.sittings):,} MB")
    )
    if last["gpu_memory_mb"] is not None:
        found.append(
            ("memory of the GPU", f"{max(s['gpu_memory_mb'] or 0 for s in run.sittings):,} MB")
        )
    found.append(("started", run.sittings[0]["started"]))
    found.append(("device", f"{last['device']}, {last['threads']} threads"))
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    return [*found, ("versions", f"{versions}; Python {last['python']}, {last['platform']}")]


def _counts(run: RunData) -> list[int]:
    return [run.recipe.source_training.iterations, *(step.iterations for step in run.recipe.steps)]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{seconds:.1f} s"
    )
