"""One iteration is a list of passes: this is what a pass is.

A pass is data: a batch, and what is learned from it. Whether it trains is a property of the pass.
The loop (`muhdi.training.iteration`) runs passes and knows no method; a third pass or a third
stream of images is one more element of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from muhdi.errors import RunError
from muhdi.losses import Losses, cross_entropy
from muhdi.models.outputs import Levels, Outputs


@dataclass(frozen=True, eq=False)
class Batch:
    """Images, and what the network's outputs on them are compared with.

    Attributes:
        images: [N, 3, H, W], RGB, uint8 or float in 0..255. With a fourth channel they say which
            tokens are hidden, see `muhdi.models.hidden_tokens`.
        labels: int64 [N, H, W], class positions and 255 (ignored): true ones or pseudo-labels.
            None where there are none.
        confidence: [N, H, W] in 0..1, a factor per pixel; None: 1 everywhere.
        pixels: the number of labelled pixels that a loss on this batch is averaged over, a scalar.
            The loop fills it in, so that parts of a batch and the processes that share one weigh
            every pixel alike; pass it to `muhdi.losses.cross_entropy`.
        windows: [N, 4], which part of its whole image each shows: left, upper, right and lower edge
            as shares of width and height, left beyond right where it is mirrored. None: unknown.
        target: which of the step's targets it belongs to, from 0: that of its images, or on the
            source that for whose sake it passes.
    """

    images: Tensor
    labels: Tensor | None = None
    confidence: Tensor | None = None
    pixels: Tensor | None = None
    windows: Tensor | None = None
    target: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]

    def split(self, parts: int) -> Iterator[Batch]:
        """The batch in ``parts`` equal parts along N."""
        if parts == 1:
            yield self
            return
        nothing = (None,) * parts
        images = self.images.chunk(parts)
        labels = nothing if self.labels is None else self.labels.chunk(parts)
        confidence = nothing if self.confidence is None else self.confidence.chunk(parts)
        windows = nothing if self.windows is None else self.windows.chunk(parts)
        # The mean number of a part's pixels: the parts' losses are averaged, so every pixel of the
        # batch has the same weight whichever part it falls into.
        pixels = None if self.pixels is None else self.pixels / parts
        for n in range(parts):
            yield Batch(images[n], labels[n], confidence[n], pixels, windows[n], self.target)


Objective = Callable[[Outputs, Batch], Losses]
"""Loss terms of the network's outputs on (a part of) a batch."""


@dataclass(frozen=True)
class Pass:
    """One forward pass.

    Attributes:
        batch: what the network sees.
        objective: what is learned from its outputs. None: normalisation sees the images and nothing
            is learned.
        owner: whose pass it is, for messages.
    """

    batch: Batch
    objective: Objective | None = None
    owner: str = "muhdi"


def level_cross_entropy(
    name: str, logits: Levels, batch: Batch, weights: dict[str, float]
) -> Losses:
    """w_main CE(main) + w_aux CE(aux), each pixel with its confidence.

    Args:
        name: what the terms' names begin with.
        logits: at the size of the labels.
        batch: with labels.
        weights: factor per level; a level without one has no term.
    """
    assert batch.labels is not None
    losses: Losses = {}
    for level, one in logits.items():
        if level in weights:
            missed = cross_entropy(one, batch.labels, batch.confidence, batch.pixels)
            losses[f"{name}_{level}"] = weights[level] * missed
    return losses


def without_zeros(weights: dict[str, float]) -> dict[str, float]:
    """The factors of the levels that count: nothing is computed for the others."""
    return {level: weight for level, weight in weights.items() if weight}


def merged(*terms: Losses) -> Losses:
    """All loss terms together.

    Raises:
        RunError: two terms have one name; the one would hide the other, gradient and all.
    """
    together: Losses = {}
    for losses in terms:
        for name, loss in losses.items():
            if name in together:
                raise RunError(f"two loss terms are called {name!r}; rename one of them")
            together[name] = loss
    return together
