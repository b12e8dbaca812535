"""Scores within steps: curves of domains over the iterations, and the area under them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from muhdi.evaluation.metrics import mean_of_known

Point = tuple[int, float]
"""Iterations since the first step began, and mIoU in percent."""

Steps = Sequence[Mapping[str, Any]]
"""Of `muhdi.evaluation.results.Results`."""


def has_curves(steps: Steps) -> bool:
    """Whether anything was evaluated within a step."""
    return any(step.get("curve") for step in steps)


def step_starts(steps: Steps) -> list[int]:
    """Iterations before each stage, counted from the beginning of the first step.

    The first stage, whose scores are those from before the first step, and the first step begin
    at 0.
    """
    starts = [0]
    for step in steps[:-1]:
        starts.append(starts[-1] + int(step.get("iterations", 0)))
    return starts


def curve(steps: Steps, statistics: str, domain: str, first: int = 0) -> list[Point]:
    """The scores of a domain after, and within, the steps; what is not known is left out.

    Args:
        steps: the stages of a run, of which something was evaluated within.
        statistics: the normalisation statistics.
        domain: its name.
        first: the stage after which the curve begins.
    """
    found: list[Point] = []
    for number, (start, step) in enumerate(zip(step_starts(steps), steps, strict=True)):
        if number < first:
            continue
        within = step.get("curve", []) if number > first else []
        for point in within:
            _add(found, start + point["iterations"], point["scores"], statistics, domain)
        end = start + int(step.get("iterations", 0))
        _add(found, end, step["scores"], statistics, domain)
    return found


def _add(
    found: list[Point], at: int, scores: Mapping[str, Any], statistics: str, domain: str
) -> None:
    miou = scores.get(statistics, {}).get(domain, {}).get("miou")
    if miou is not None:
        found.append((at, miou))


def area_under(points: Sequence[Point]) -> float | None:
    """The area under a curve divided by its length: its mean height; None for a curve of no length.

    With points (x_i, y_i), by the trapezoidal rule:
    1 / (x_n - x_0) sum_i (x_{i+1} - x_i) (y_i + y_{i+1}) / 2.
    """
    length = points[-1][0] - points[0][0] if points else 0
    if not length:
        return None
    total = 0.0
    for (x, y), (next_x, next_y) in pairwise(points):
        total += (next_x - x) * (y + next_y) / 2
    return total / length


def area(
    steps: Steps, statistics: str, targets: Sequence[str], adapted_at: Sequence[int]
) -> float | None:
    """Mean mIoU of the targets over the iterations, in percent: how good it was at any time.

    The mean over the targets of `area_under` their curves, each from the beginning of the first
    step that adapts to the target to the end of the run. Koh et al. 2022 (online continual learning
    with anytime inference) measure the area under the accuracy by samples in the same spirit.

    Args:
        steps: the stages of a run.
        statistics: the normalisation statistics.
        targets: their names.
        adapted_at: for each target the first step that adapts to it.

    Returns:
        None where nothing was evaluated within a step, or a target has no score from the beginning
        of its step on, as with `domain` statistics, which are measured at its end.
    """
    if not has_curves(steps):
        return None
    starts = step_starts(steps)
    areas = []
    for target, first in zip(targets, adapted_at, strict=True):
        if first >= len(steps):
            continue  # not reached yet
        points = curve(steps, statistics, target, first - 1)
        if not points or points[0][0] > starts[first]:
            return None
        areas.append(area_under(points))
    return mean_of_known(areas)
