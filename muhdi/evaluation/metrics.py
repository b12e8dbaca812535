"""Scores, without torch: confusion matrix -> IoU; result matrix -> average and forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Confusion = npt.NDArray[np.int64]
"""[C, C], rows the true class, columns the predicted one."""

Matrix = Sequence[Sequence[float | None]]
"""R[stage][domain]: mIoU in percent, None where it was not measured.

Row 0 is before the first step.
"""


def iou(confusion: Confusion) -> npt.NDArray[np.float64]:
    """Intersection over union per class, [C], 0..1, as the reference computes it.

    NaN for a class that no label holds and that is never predicted.
    """
    hits = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    scores: npt.NDArray[np.float64] = np.divide(
        hits, union, out=np.full(len(hits), np.nan), where=union > 0
    )
    return scores


def scored_iou(confusion: Confusion) -> npt.NDArray[np.float64]:
    """`iou`, but NaN for every class that no label holds.

    Such a class could only score 0, from the first pixel that is taken for it; and that pixel
    counts already, as a miss of the class that it is of.
    """
    return np.where(confusion.sum(1) > 0, iou(confusion), np.nan)


def mean_iou(confusion: Confusion, over: Sequence[int] | None = None) -> float | None:
    """Mean of `scored_iou` over the classes that have one, 0..1; None where there are none.

    Args:
        confusion: pixels by true and by predicted class.
        over: positions of the classes whose mean is wanted; None: of all.
    """
    scores = scored_iou(confusion)
    if over is not None:
        scores = scores[list(over)]
    return None if np.isnan(scores).all() else float(np.nanmean(scores))


def pixel_accuracy(confusion: Confusion) -> float | None:
    """Share of the labelled pixels that are right, 0..1; None for an empty matrix."""
    labelled = confusion.sum()
    return float(np.trace(confusion) / labelled) if labelled else None


@dataclass(frozen=True)
class Summary:
    """What a sequence achieved, in points of mIoU; None where it cannot be said.

    R[s][t] is the mIoU on target t after step s; row 0 is the untouched source network. There are
    targets 1..T, and target t is first adapted to in step t:

    * average = (1 / T) sum_t R[T][t] (Lopez-Paz & Ranzato 2017, GEM, equation 2)
    * forgetting = (1 / (T - 1)) sum_{t < T} (max_{t <= s < T} R[s][t] - R[T][t])
      (Chaudhry et al. 2018, equation 3, from the target's own step on)
    * backward = (1 / (T - 1)) sum_{t < T} (R[T][t] - R[t][t]) (GEM, equation 3)
    * forward = (1 / (T - 1)) sum_{t > 1} (R[t-1][t] - b[t]) (GEM, equation 4). GEM's reference b is
      a network of random weights; here it is the untouched source network, b[t] = R[0][t], so that
      only what the steps have given counts.

    In a sequence with more steps than targets, R[T] is the last row, and a target that comes back
    counts from its first step on: what it regains then hides what was lost before. That is what
    `before_return` is for.

    Attributes:
        average: over the targets, at the end.
        forgetting: what was lost of each target's best; targets whose first step is the last do not
            count.
        backward: what later steps gave to earlier targets, below 0 where they took.
        forward: what earlier steps gave to later targets.
        before_return: what was lost of a target's best by the time it came back, see
            `lost_before_return`; None where none comes back.
        area: mean of the targets' mIoU over the iterations, see `muhdi.evaluation.curves.area`;
            None where nothing was evaluated within a step.
    """

    average: float | None
    forgetting: float | None
    backward: float | None
    forward: float | None
    before_return: float | None = None
    area: float | None = None


def summarise(matrix: Matrix, adapted_at: Sequence[int]) -> Summary:
    """Summary of a result matrix.

    Args:
        matrix: R[stage][target]; row 0 is the source, and columns are targets only.
        adapted_at: for each target the (first) step that adapted to it.
    """
    last = len(matrix) - 1
    final = [matrix[last][t] for t in range(len(adapted_at))] if matrix else []
    forgetting = []
    backward = []
    forward = []
    for target, step in enumerate(adapted_at):
        column = [row[target] for row in matrix]
        if step < last:
            best = [value for value in column[step:last] if value is not None]
            forgetting.append(_difference(max(best, default=None), column[last]))
            backward.append(_difference(column[last], column[step]))
        if 1 < step <= last:
            forward.append(_difference(column[step - 1], column[0]))
    return Summary(
        mean_of_known(final),
        mean_of_known(forgetting),
        mean_of_known(backward),
        mean_of_known(forward),
    )


def lost_before_return(matrix: Matrix, visits: Sequence[Sequence[int]]) -> float | None:
    """What was lost of targets by the time they came back; None where none does.

    For a target t that is adapted to in step v and next in step w > v,
    max_{v <= s < w} R[s][t] - R[w-1][t]: its best since v against its score just before w. The mean
    over all such pairs (v, w) of all targets.

    Args:
        matrix: R[stage][target]; row 0 is the source, and columns are targets only.
        visits: for each target all steps that adapt to it, in order; later ones than the last row
            do not count.
    """
    lost = []
    for target, steps in enumerate(visits):
        for step, next_step in pairwise(steps):
            if next_step < len(matrix):
                column = [row[target] for row in matrix[step:next_step]]
                best = [value for value in column if value is not None]
                lost.append(_difference(max(best, default=None), column[-1]))
    return mean_of_known(lost)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
