"""What the numbers of several arms say, in one sentence that is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from muhdi.evaluation.results import Results
from muhdi.report.result_table import spread, text
from muhdi.report.student import student_quantile

NOISE = 1.5
"""Points of mIoU below which a difference on validation sets of this size is no evidence."""


def reading(
    arms: Mapping[str, Sequence[Results]], kind: str, method: str, controls: Mapping[str, str]
) -> str:
    """One sentence on how ``method`` compares with its controls.

    A difference counts when it exceeds `NOISE` and, over several seeds, is significant at 5 % in a
    paired t test.

    Args:
        arms: results by arm, the same seeds in the same order.
        kind: of the statistics.
        method: the arm in question.
        controls: arm -> what the sentence calls it.
    """
    runs = arms[method]
    averages = [run.summary(kind).average for run in runs]
    parts = []
    for arm, title in controls.items():
        averages_by, forgets_by = (
            difference(runs, arms[arm], kind, what) for what in ("average", "forgetting")
        )
        if averages_by and forgets_by:
            more, less = _words(averages_by, "more", "less"), _words(forgets_by, "more", "less")
            parts.append(f"against {title} it averages {more} and forgets {less}")
    if not parts or None in averages:
        return (
            f"With {kind} statistics nothing can be said: the targets have no labels to score"
            f" {method} by."
        )
    seeds = f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"
    average = text(spread(averages))
    return (
        f"With {kind} statistics ({seeds}), {method} averages {average} on the targets;"
        f" {'; '.join(parts)}."
    )


@dataclass(frozen=True)
class Difference:
    """What one arm has more than another, in points, seed by seed.

    Attributes:
        values: one per seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return mean(self.values)

    @property
    def error(self) -> float | None:
        """Half the width of the 95 % interval of the mean (paired t test).

        None of a single seed.
        """
        count = len(self.values)
        if count < 2:
            return None
        quantile = student_quantile(count - 1)
        return quantile * stdev(self.values) / math.sqrt(count)

    @property
    def counts(self) -> bool:
        """Whether it exceeds `NOISE` and, over several seeds, is significant at 5 %."""
        return abs(self.mean) > max(NOISE, self.error or 0.0)


def difference(
    ours: Sequence[Results], others: Sequence[Results], kind: str, what: str
) -> Difference | None:
    """``what`` of a summary (average, forgetting) of one arm minus that of another.

    None when one is not known.

    Args:
        ours: runs of one arm.
        others: of the other, the same seeds in the same order.
        kind: of the statistics.
        what: attribute of `muhdi.evaluation.metrics.Summary`.
    """
    pairs = [
        (getattr(a.summary(kind), what), getattr(b.summary(kind), what))
        for a, b in zip(ours, others, strict=True)
    ]
    if not pairs or any(a is None or b is None for a, b in pairs):
        return None
    return Difference(tuple(a - b for a, b in pairs))


def _words(found: Difference, up: str, down: str) -> str:
    """``1.8 more``, and whether that is within the noise."""
    words = f"{abs(found.mean):.1f} {up if found.mean >= 0 else down}"
    return words if found.counts else f"{words} (within the noise)"
