"""Scores of a network that adapts while it predicts: by round and domain. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from muhdi.evaluation.metrics import Confusion, mean_of_known
from muhdi.evaluation.results import Entry, scores

Json = dict[str, Any]


@dataclass
class OnlineScores:
    """What one method has scored so far; every prediction is from before its image was learned.

    A domain has a score in a round once all its images of the round are scored.

    Attributes:
        classes: their names.
        mean_over: the classes of the mean; empty: all.
        rounds: by round, the entry of each domain that is complete, see
            `muhdi.evaluation.results.Entry`.
        cumulative: by round, mIoU in percent of all images since the first round, together.
    """

    classes: Sequence[str]
    mean_over: Sequence[str] = ()
    rounds: list[dict[str, Entry]] = field(default_factory=list)
    cumulative: list[float | None] = field(default_factory=list)
    _total: Confusion | None = None

    def begin_round(self) -> None:
        """A round begins."""
        self.rounds.append({})
        self.cumulative.append(None)

    def add(self, domain: str, confusion: Confusion | None, images: int) -> None:
        """A domain's images of this round are done.

        Args:
            domain: its name.
            confusion: pixels by true and by predicted class; None: it has no labels.
            images: how many.
        """
        if confusion is None:
            self.rounds[-1][domain] = {"miou": None, "reason": "unlabelled", "images": images}
            return
        self.rounds[-1][domain] = self._entry(confusion, images)
        before = np.zeros_like(confusion) if self._total is None else self._total
        self._total = before + confusion
        self.cumulative[-1] = self._entry(self._total, images)["miou"]

    def _entry(self, confusion: Confusion, images: int) -> Entry:
        entry = scores(confusion, self.classes, images, self.mean_over)
        entry.pop("confusion", None)
        return entry

    def means(self) -> list[float | None]:
        """By round, the mean of the domains' mIoU in percent."""
        return [mean_of_known([entry["miou"] for entry in one.values()]) for one in self.rounds]

    def by_domain(self, domain: str) -> list[float | None]:
        """By round, mIoU of a domain in percent; None where it has none."""
        return [one.get(domain, {}).get("miou") for one in self.rounds]

    def to_json(self) -> Json:
        """All of it as plain values."""
        rounds = []
        for entries, mean, cumulative in zip(
            self.rounds, self.means(), self.cumulative, strict=True
        ):
            rounds.append({"domains": entries, "mean": mean, "cumulative": cumulative})
        return {"rounds": rounds, "mean": mean_of_known(self.means())}
