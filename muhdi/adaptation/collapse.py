"""Notices when a teacher's labels run away from the images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from muhdi import distributed

WINDOW = 50
"""Iterations at the start of a step that later ones are compared with, at most; means reach as far
back."""
SHORTEST_WINDOW = 10
"""A mean over fewer iterations says little: a class may be in none of their images."""
WINDOWS = 8
"""In a step. A mean forgets a vanished class's share to a tenth in 2.3 windows, and the teacher
follows the student late: both must have happened well before the step is over."""
FEWEST_LOOKS = 3
"""Mirror images that a mean reaches over, at least."""
MIRROR_EVERY = 10
"""Iterations between two looks at mirror images: a tenth of the teacher's time, at most."""
SMALLEST_SHARE = 0.01
"""Share of the pixels from which the loss of a class is told from chance."""
VANISHED = 0.1
"""A class has vanished when less than this part of its first share is left."""
CHANGE = 0.05
"""By so much confidence must rise and agreement fall to be worth a word."""


CONTRADICTION = "surer, and in less agreement"
"""Stands among the classes that were told."""


class CollapseWatch(nn.Module):
    """Means of what pseudo-labels are like, at the start of a step and now.

    Two signs of a collapse: classes vanish, and the teacher grows surer while it agrees less with
    itself about mirror images. Numbers stay on the device until `warnings` reads them.

    Args:
        class_names: of all classes, in order.
        iterations: of the step; None: unknown.

    Attributes:
        window: iterations that means reach over.
    """

    first_shares: Tensor
    shares: Tensor
    first_confidence: Tensor
    confidence: Tensor
    first_agreement: Tensor
    agreement: Tensor

    def __init__(self, class_names: tuple[str, ...], iterations: int | None = None) -> None:
        super().__init__()
        self.class_names = class_names
        self.window = WINDOW
        if iterations is not None:
            self.window = min(max(iterations // WINDOWS, SHORTEST_WINDOW), WINDOW)
        self.seen = 0
        self.compared = 0
        self._told: set[str] = set()
        # Of the iteration that runs; one that is left out for a bad batch leaves no trace.
        self._means: Tensor | None = None
        self._agreement: Tensor | None = None
        for name in ("first_shares", "shares"):
            self.register_buffer(name, torch.zeros(len(class_names)))
        for name in ("first_confidence", "confidence", "first_agreement", "agreement"):
            self.register_buffer(name, torch.zeros(()))

    def see(self, confidence: Tensor, pseudo: Tensor) -> None:
        """The pseudo-labels [N, H, W] of an iteration, and how sure the teacher is of them."""
        labels = pseudo.flatten()
        pixels = torch.zeros_like(self.shares)
        pixels.scatter_add_(0, labels, torch.ones_like(labels, dtype=pixels.dtype))
        means = torch.cat([pixels / len(labels), confidence.mean()[None].to(pixels)])
        self._means = distributed.all_reduce_mean(means)

    def asks_for_mirror(self) -> bool:
        """Whether this iteration's images should be looked at in a mirror, too."""
        return self.seen % MIRROR_EVERY == 0

    def compare(self, own: Tensor, mirrored: Tensor) -> None:
        """Probabilities [N, C, H, W] of images, and of their mirror images turned back."""
        if not self.asks_for_mirror():
            return
        agreement = (own.argmax(1) == mirrored.argmax(1)).float().mean()
        self._agreement = distributed.all_reduce_mean(agreement)

    def remember(self) -> None:
        """The iteration counts: what was seen in it goes into the means."""
        if self._means is not None:
            shares = self._means[:-1]
            confidence = self._means[-1]
            _remember(self.first_shares, self.shares, shares, self.seen, self.window)
            _remember(self.first_confidence, self.confidence, confidence, self.seen, self.window)
            self.seen += 1
        if self._agreement is not None:
            window = max(self.window // MIRROR_EVERY, FEWEST_LOOKS)
            agreement = self._agreement
            _remember(self.first_agreement, self.agreement, agreement, self.compared, window)
            self.compared += 1
        self._means = self._agreement = None

    def warnings(self) -> list[str]:
        """Signs of a collapse that were not told before."""
        if self.seen < 2 * self.window:
            return []
        return [*self._vanished(), *self._contradiction()]

    def _vanished(self) -> list[str]:
        lines = []
        both = zip(self.first_shares.tolist(), self.shares.tolist(), strict=True)
        for name, (first, now) in zip(self.class_names, both, strict=True):
            if first < SMALLEST_SHARE or now >= VANISHED * first or name in self._told:
                continue
            self._told.add(name)
            lines.append(
                f"the teacher labels {100 * now:.2f} % of the target's pixels {name!r}, after"
                f" {100 * first:.1f} % at the start of the step: the class is vanishing; see"
                " docs/methods.md, collapse"
            )
        return lines

    def _contradiction(self) -> list[str]:
        surer = float(self.confidence) - float(self.first_confidence)
        less = float(self.first_agreement) - float(self.agreement)
        if surer < CHANGE or less < CHANGE or CONTRADICTION in self._told:
            return []
        self._told.add(CONTRADICTION)
        return [
            f"the teacher is surer than at the start of the step ({self.confidence:.2f} after"
            f" {self.first_confidence:.2f}) and agrees less with itself about mirror images"
            f" ({self.agreement:.2f} after {self.first_agreement:.2f}): its labels may be"
            " collapsing; see docs/methods.md, collapse"
        ]

    def get_extra_state(self) -> dict[str, Any]:
        """What is saved besides tensors."""
        return {"seen": self.seen, "compared": self.compared, "told": sorted(self._told)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What `get_extra_state` gave."""
        self.seen = state["seen"]
        self.compared = state["compared"]
        self._told = set(state["told"])


def _remember(first: Tensor, now: Tensor, value: Tensor, number: int, window: int) -> None:
    """Put a value into the mean of the first ``window`` ones, and into that of the latest ones."""
    if number < window:
        first.lerp_(value.to(first.dtype), 1 / (number + 1))
        now.copy_(first)
    else:
        now.lerp_(value.to(now.dtype), 1 / window)
