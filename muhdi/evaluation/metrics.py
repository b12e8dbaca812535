"""Scores, without torch: confusion matrix -> IoU; result matrix -> average and forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    With targets 1..T and steps 1..T (Chaudhry et al. 2018; Lopez-Paz & Ranzato 2017):

    Attributes:
        average: mean over the targets of R[T][t].
        forgetting: mean over all targets but the last of max_{t <= s < T} R[s][t] - R[T][t].
        backward: mean over the same of R[T][t] - R[t][t].
        forward: mean over the targets but the first of R[t-1][t] - R[0][t]: what earlier steps gave
            to a later one.
    """

    average: float | None
    forgetting: float | None
    backward: float | None
    forward: float | None


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
    return Summary(_mean(final), _mean(forgetting), _mean(backward), _mean(forward))


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
