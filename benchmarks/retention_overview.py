"""All retentions in one table: what each gains in every study, what it costs, what it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.arms import Runs, Study, differences_to_control
from muhdi.report.result_table import markdown
from muhdi.report.significance import Compared

MEASURED = Path(__file__).parent / "measured"
BACKBONES = ("small", "efficientnet_lite0")
"""Whose iterations were measured, see `benchmarks.retention_cost`."""

INTRODUCTION = """What each arm averages over the targets after the last step, more than
`selftrain`. Bold is more than noise; all else is within it. *Keeps* is what the last network's file
holds for it ({study}), besides the statistics that every run keeps.{costs}
"""
COSTS = """ *Iteration* is the CPU time of
an iteration over one that keeps nothing (`small` / EfficientNet-Lite0,
`python -m benchmarks.retention_cost`)."""


def overview(heading: str, finished: Sequence[tuple[Study, Runs]], *, costs: bool = True) -> str:
    """The table of finished studies; empty where there is none.

    Args:
        heading: of the table.
        finished: studies whose arms have the same meaning, and their runs.
        costs: whether the times of iterations, which were measured with the source, hold for them.
    """
    if not finished:
        return ""
    head = ["arm"]
    columns: list[Mapping[str, Compared]] = []
    for study, runs in finished:
        for kind in study.statistics:
            head.append(f"{study.short}, `{kind}`")
            columns.append(differences_to_control(study, runs, kind))
    first, first_runs = finished[0]
    arms = dict.fromkeys(arm for study, runs in finished for arm in runs)
    times = _costs()
    rows = []
    for arm in arms:
        if arm == first.control:
            continue
        gains = [_gain(column.get(arm)) for column in columns]
        time = [times.get(arm, "-")] if costs else []
        rows.append([f"`{arm}`", *gains, _keeps(first_runs, arm), *time])
    table = markdown([*head, "keeps", *(["iteration"] if costs else [])], rows)
    introduction = INTRODUCTION.format(study=first.short, costs=COSTS if costs else "")
    return f"### {heading}\n\n{introduction}\n{table}\n"


def _gain(compared: Compared | None) -> str:
    """The mean difference, bold where it is more than noise."""
    if compared is None:
        return "-"
    gain = f"{compared.difference.mean:+.1f}"
    return f"**{gain}**" if compared.holds else gain


def _costs() -> dict[str, str]:
    """The CPU time of an iteration, by arm, over one without a retention."""
    ratios: dict[str, list[str]] = {}
    for backbone in BACKBONES:
        measured = json.loads((MEASURED / f"retention_cost_{backbone}.json").read_text())
        for arm, rounds in measured["over_none"].items():
            ratios.setdefault(arm, []).append(f"{mean(rounds):.2f}")
    return {arm: " / ".join(found) for arm, found in ratios.items()}


def _keeps(runs: Runs, arm: str) -> str:
    """How much the methods of an arm carry out of its last step."""
    if arm not in runs:
        return "-"
    kept = runs[arm][0].steps[-1]["kept"]
    held = sum(size for owner, size in kept.items() if owner != "statistics")
    return f"{held / 1024:.1f} KiB" if held else "nothing"
