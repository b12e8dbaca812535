"""How well scores without labels rank the networks of a run, where labels can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from muhdi.evaluation.results import LABEL_FREE, Results, merit
from muhdi.report.label_free import NAMES
from muhdi.report.result_table import Cell, ResultTable, known_values, statistics_title

FEW_NETWORKS = 5
"""Of fewer, the order is right by chance too often: of four, one time in 24."""
FEW_IN_A_DOMAIN = 3
"""Of two networks any score gives +1 or -1."""
RANKS = 0.7
"""From this correlation on, a score chooses much as labels do."""


@dataclass(frozen=True)
class Ranking:
    """What is to be said of the scores, and their correlations."""

    sentence: str
    table: ResultTable


@dataclass(frozen=True)
class _Point:
    """One network on one target."""

    domain: str
    miou: float
    scores: Mapping[str, Any]


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, the smallest first; equal values share the mean of theirs."""
    found = []
    for value in values:
        below = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        found.append(below + (equal + 1) / 2)
    return found


def spearman(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Correlation of the ranks of two lists, -1..1 (Spearman 1904); None where one is constant."""
    if len(one) < 2:
        return None
    middle = (len(one) + 1) / 2
    first = [rank - middle for rank in ranks(one)]
    second = [rank - middle for rank in ranks(two)]
    size = sum(a * a for a in first) * sum(b * b for b in second)
    if not size:
        return None
    return float(sum(a * b for a, b in zip(first, second, strict=True)) / size**0.5)


def ranking(results: Results, statistics: str) -> Ranking | None:
    """How each score ranks the networks of a run; None where no target has both kinds of scores."""
    points = list(_points(results, statistics))
    if not points:
        return None
    rows: list[list[Cell]] = []
    trusted = []
    for key in LABEL_FREE:
        together = _correlation(points, key)
        within = _within(points, key)
        rows.append([NAMES[key], _signed(together), _signed(within)])
        known = known_values([together, within])
        if known and min(known) >= RANKS:
            trusted.append(NAMES[key])
    domains = len({point.domain for point in points})
    networks = max(sum(point.domain == name for point in points) for name in results.targets)
    table = ResultTable(
        f"Rank correlation of scores without labels and mIoU, {statistics_title(statistics)}",
        ["score", "all together", "within a target"],
        rows,
    )
    return Ranking(_sentence(networks, domains, trusted), table)


def _points(results: Results, statistics: str) -> Iterator[_Point]:
    """Every network that was scored on every target, with and without its labels."""
    for step in results.steps:
        row = step["scores"].get(statistics, {})
        for domain in results.targets:
            for entry in _candidates(step, statistics, domain) or [row.get(domain, {})]:
                if entry.get("miou") is not None and "label_free" in entry:
                    yield _Point(domain, entry["miou"], entry["label_free"])


def _candidates(step: Mapping[str, Any], statistics: str, domain: str) -> list[dict[str, Any]]:
    """Scores on a domain of the networks that a step chose from; its own network is one of them."""
    selected = step.get("selected")
    if selected is None or (selected["statistics"], selected["domain"]) != (statistics, domain):
        return []
    return list(selected["candidates"])


def _correlation(points: Sequence[_Point], key: str) -> float | None:
    """Of the points that have the score; +1 where it always prefers the higher mIoU."""
    values = []
    mious = []
    for point in points:
        value = merit(point.scores, key)
        if value is not None:
            values.append(value)
            mious.append(point.miou)
    return spearman(values, mious)


def _within(points: Sequence[_Point], key: str) -> float | None:
    """The mean over the targets of the correlation on one target."""
    found = []
    for domain in sorted({point.domain for point in points}):
        own = [point for point in points if point.domain == domain]
        own = [point for point in own if point.scores[key] is not None]
        if len(own) >= FEW_IN_A_DOMAIN:
            found.append(_correlation(own, key))
    known = known_values(found)
    return mean(known) if known else None


def _signed(value: float | None) -> Cell:
    return None if value is None else f"{value:+.2f}"


def _sentence(networks: int, domains: int, trusted: Sequence[str]) -> str:
    targets = "1 target" if domains == 1 else f"{domains} targets"
    if networks < FEW_NETWORKS:
        few = "1 network" if networks == 1 else f"{networks} networks"
        return (
            f"Only {few} of this run can be compared on {targets}: too few to trust any of these"
            " scores."
        )
    of = f"Of {networks} networks on {targets}"
    if not trusted:
        return f"{of}, no score has a correlation of {RANKS} or more: choose by none of them."
    return (
        f"{of}, {', '.join(trusted)} ranked them much as labels do (a correlation of {RANKS} or"
        " more); do not choose by the others. Another run may differ."
    )
