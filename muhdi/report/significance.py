"""What the numbers of several arms say, in one sentence that is computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from muhdi.evaluation.results import Results
from muhdi.report.result_table import with_statistics
from muhdi.report.student import student_quantile, upper_tail

LEVEL = 0.05
"""P values below it count, once they are corrected."""
NOISE = 1.5
"""Points of mIoU below which a difference on validation sets of this size is no evidence."""


def against_reading(
    arm: str, runs: Sequence[Results], against: str, others: Sequence[Results], statistics: str
) -> str:
    """One sentence on how an arm compares with another.

    A difference counts when it exceeds `NOISE` and, over several seeds, is significant at 5 % in a
    paired t test.

    Args:
        arm: its name.
        runs: of the arm.
        against: name of the other.
        others: of the other, the same seeds in the same order.
        statistics: the normalisation statistics.
    """
    average = difference(runs, others, statistics, "average")
    forgetting = difference(runs, others, statistics, "forgetting")
    if average is None:
        return f"{arm} and {against} cannot be compared: they share no seed with scored targets."
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
    compared = "as much as" if _is_nothing(average) else f"{_amount(average, 'more', 'less')} than"
    sentence = (
        f"{with_statistics(statistics).capitalize()} ({seeds}), {arm} averages {compared}"
        f" {against} on the targets{_doubt(average)}"
    )
    if forgetting is not None:
        sentence += f", and forgets {_in_words(forgetting, 'more', 'less')}"
    return f"{sentence}."


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

        None for a single seed.
        """
        count = len(self.values)
        if count < 2:
            return None
        quantile = student_quantile(count - 1)
        return quantile * stdev(self.values) / math.sqrt(count)

    @property
    def p(self) -> float | None:
        """Probability of a mean at least so far from 0 by chance alone (paired t test, two-sided).

        None for a single seed.
        """
        count = len(self.values)
        if count < 2:
            return None
        error = stdev(self.values) / math.sqrt(count)
        if not error:
            return 0.0 if self.mean else 1.0
        return 2 * upper_tail(abs(self.mean) / error, count - 1)

    @property
    def counts(self) -> bool:
        """Whether it exceeds `NOISE` and, over several seeds, is significant at 5 %."""
        return abs(self.mean) > max(NOISE, self.error or 0.0)


def difference(
    ours: Sequence[Results], others: Sequence[Results], statistics: str, what: str
) -> Difference | None:
    """``what`` of a summary (average, forgetting) of one arm minus that of another.

    None where it is unknown for a seed.

    Args:
        ours: runs of one arm.
        others: of the other, the same seeds in the same order.
        statistics: the normalisation statistics.
        what: attribute of `muhdi.evaluation.metrics.Summary`.
    """
    values = []
    for our_run, other_run in zip(ours, others, strict=True):
        our_value = getattr(our_run.summary(statistics), what)
        other_value = getattr(other_run.summary(statistics), what)
        if our_value is None or other_value is None:
            return None
        values.append(our_value - other_value)
    return Difference(tuple(values)) if values else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P values that are corrected for their number, in their order (Holm 1979).

    The smallest of n is multiplied by n, the next one by n - 1, and so on; none is below a smaller
    one's, and none above 1. At 5 % of what is left, all of them together err in at most 5 % of
    the cases in which there is no difference.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    ascending = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(ascending):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(largest, 1.0)
    return corrected


@dataclass(frozen=True)
class Compared:
    """An arm next to the control.

    Attributes:
        difference: seed by seed.
        corrected: its p value after Holm's correction for the number of arms; None for a single
            seed.
    """

    difference: Difference
    corrected: float | None

    @property
    def holds(self) -> bool:
        """Whether the difference exceeds `NOISE` and is significant after the correction."""
        significant = self.corrected is not None and self.corrected < LEVEL
        return significant and abs(self.difference.mean) > NOISE

    @property
    def verdict(self) -> str:
        """``higher``, ``lower``, or why neither can be said."""
        if self.corrected is None:
            return "one seed, no test"
        if not self.holds:
            return "within the noise"
        return "higher" if self.difference.mean > 0 else "lower"


def corrected(differences: Mapping[str, Difference]) -> dict[str, Compared]:
    """Differences of several arms from one control, corrected for their number, see `holm`."""
    tested = {arm: found.p for arm, found in differences.items() if found.p is not None}
    after = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {arm: Compared(found, after.get(arm)) for arm, found in differences.items()}


def _in_words(found: Difference, up: str, down: str) -> str:
    """``1.8 more``, and whether that is within the noise."""
    return _amount(found, up, down) + _doubt(found)


def _is_nothing(found: Difference) -> bool:
    """Whether a difference is 0.0 as it is written."""
    return abs(found.mean) < 0.05


def _amount(found: Difference, up: str, down: str) -> str:
    if _is_nothing(found):
        return "as much"
    return f"{abs(found.mean):.1f} {up if found.mean >= 0 else down}"


def _doubt(found: Difference) -> str:
    return "" if found.counts or _is_nothing(found) else " (within the noise)"
