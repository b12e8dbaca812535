"""What the numbers of several arms say, in one sentence that is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from muhdi.evaluation.results import Results
from muhdi.report.tables import number

NOISE = 1.5
"""Points of mIoU below which a difference on validation sets of this size is no evidence."""


def reading(arms: Mapping[str, Sequence[Results]], kind: str, method: str, controls: Mapping[str, str]) -> str:
    """One sentence on how ``method`` compares with its controls.

    A difference counts when it exceeds `NOISE` and, over several seeds, twice its standard error (seeds are paired).

    Args:
        arms: results by arm, the same seeds in the same order.
        kind: of the statistics.
        method: the arm in question.
        controls: arm -> what the sentence calls it.
    """
    runs = arms[method]
    average = mean(r.summary(kind).average or 0.0 for r in runs)
    parts = []
    for arm, title in controls.items():
        higher = _compare([_pair(a, b, kind, "average") for a, b in zip(runs, arms[arm], strict=True)])
        less = _compare([-_pair(a, b, kind, "forgetting") for a, b in zip(runs, arms[arm], strict=True)])
        parts.append(
            f"against {title} it averages {_words(*higher, 'more', 'less')} and forgets {_words(*less, 'less', 'more')}"
        )
    seeds = f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"
    return f"With {kind} statistics ({seeds}), {method} averages {number(average)} on the targets; {'; '.join(parts)}."


def _pair(a: Results, b: Results, kind: str, what: str) -> float:
    return (getattr(a.summary(kind), what) or 0.0) - (getattr(b.summary(kind), what) or 0.0)


def _compare(differences: Sequence[float]) -> tuple[float, bool]:
    """Mean difference, and whether it is beyond the noise."""
    value = mean(differences)
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    return value, abs(value) > max(NOISE, 2 * error)


def _words(value: float, clear: bool, up: str, down: str) -> str:
    text = f"{abs(value):.1f} {up if value >= 0 else down}"
    return text if clear else f"{text} (within the noise)"
