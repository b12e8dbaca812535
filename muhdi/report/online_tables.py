"""Tables of networks that adapt while they predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muhdi.evaluation.metrics import mean_of_known
from muhdi.report.result_table import Cell, ResultTable

Arm = Mapping[str, Any]
"""What ``online.json`` holds of a method."""


def methods_table(arms: Mapping[str, Arm], domains: Sequence[str]) -> ResultTable:
    """A row for each method: its domains' mIoU, mean over the rounds.

    Args:
        arms: by name, plain prediction among them.
        domains: in the order in which they come.
    """
    rounds = max((len(arm["rounds"]) for arm in arms.values()), default=0)
    header = ["method", *domains, "mean", "first round", "last round", "cumulative", "ms", "resets"]
    rows: list[list[Cell]] = []
    for name, arm in arms.items():
        means = [one["mean"] for one in arm["rounds"]]
        cells: list[Cell] = [name]
        cells += [mean_of_known(_of_domain(arm, domain)) for domain in domains]
        cells += [arm["mean"], _first(means), _last(means), _last_cumulative(arm)]
        cells += [arm["latency"]["median_ms"], str(arm["resets"])]
        rows.append(cells)
    title = f"mIoU while adapting, mean over {rounds} rounds; ms: of an image, median"
    return ResultTable(title, header, rows)


def rounds_table(name: str, arm: Arm, domains: Sequence[str]) -> ResultTable:
    """A row for each round of one method."""
    header = ["round", *domains, "mean", "cumulative"]
    rows: list[list[Cell]] = []
    for number, one in enumerate(arm["rounds"], 1):
        scores = [one["domains"].get(domain, {}).get("miou") for domain in domains]
        rows.append([str(number), *scores, one["mean"], one["cumulative"]])
    return ResultTable(f"mIoU of {name} by round", header, rows)


def _of_domain(arm: Arm, domain: str) -> list[float | None]:
    return [one["domains"].get(domain, {}).get("miou") for one in arm["rounds"]]


def _first(values: Sequence[float | None]) -> float | None:
    return values[0] if values else None


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None


def _last_cumulative(arm: Arm) -> float | None:
    known = [one["cumulative"] for one in arm["rounds"] if one["cumulative"] is not None]
    return known[-1] if known else None
