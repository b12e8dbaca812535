"""Tables of networks that adapt while they predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from muhdi.evaluation.metrics import mean_of_known
from muhdi.report.result_table import Cell, ResultTable, statistics_title

Arm = Mapping[str, Any]
"""What ``online.json`` holds of a method."""


def methods_table(arms: Mapping[str, Arm], domains: Sequence[str]) -> ResultTable:
    """A row for each method: its domains' mIoU, mean over the rounds.

    Where methods differ in the statistics that batch norms normalise with, these are a column: what
    one has more than plain prediction may be theirs. Where there are several rounds, the first and
    the last have columns, too.

    Args:
        arms: by name, plain prediction among them.
        domains: in the order in which they come.
    """
    rounds = max((len(arm["rounds"]) for arm in arms.values()), default=0)
    used = list(dict.fromkeys(arm["statistics"] for arm in arms.values()))
    columns: list[tuple[str, Callable[[Arm], Cell]]] = []
    if len(used) > 1:
        columns.append(("statistics", lambda arm: str(arm["statistics"])))
    columns += [(domain, partial(_of_domain, domain=domain)) for domain in domains]
    columns.append(("mean", itemgetter("mean")))
    if rounds > 1:
        columns.append(("first round", partial(_of_round, place=0)))
        columns.append(("last round", partial(_of_round, place=-1)))
    columns.append(("cumulative", _last_cumulative))
    columns.append(("ms", lambda arm: arm["latency"]["median_ms"]))
    columns.append(("resets", lambda arm: str(arm["resets"])))
    rows: list[list[Cell]] = [[name, *(of(arm) for _, of in columns)] for name, arm in arms.items()]
    over = "one round" if rounds == 1 else f"mean over {rounds} rounds"
    title = f"mIoU while adapting, {over}; ms: of an image, median"
    if len(used) == 1:
        title = f"{title}; {statistics_title(used[0])}"
    return ResultTable(title, ["method", *(head for head, _ in columns)], rows)


def rounds_table(name: str, arm: Arm, domains: Sequence[str]) -> ResultTable:
    """A row for each round of one method."""
    header = ["round", *domains, "mean", "cumulative"]
    rows: list[list[Cell]] = []
    for number, one in enumerate(arm["rounds"], 1):
        scores = [one["domains"].get(domain, {}).get("miou") for domain in domains]
        rows.append([str(number), *scores, one["mean"], one["cumulative"]])
    return ResultTable(f"mIoU of {name} by round", header, rows)


def _of_domain(arm: Arm, domain: str) -> float | None:
    return mean_of_known([one["domains"].get(domain, {}).get("miou") for one in arm["rounds"]])


def _of_round(arm: Arm, place: int) -> float | None:
    means: list[float | None] = [one["mean"] for one in arm["rounds"]]
    return means[place] if means else None


def _last_cumulative(arm: Arm) -> float | None:
    known = [one["cumulative"] for one in arm["rounds"] if one["cumulative"] is not None]
    return known[-1] if known else None
