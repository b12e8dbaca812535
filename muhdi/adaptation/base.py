"""What every adaptation is: how the network learns a new target domain without labels."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from muhdi.losses import Losses
from muhdi.models.segmenter import Levels, Segmenter


class TargetBatch(NamedTuple):
    """What the second forward pass sees, and what the adaptation compares its outputs with.

    Attributes:
        images: [N, 3, H, W], the target's own, or made from both domains.
        labels: int64 [N, H, W], pseudo-labels or the oracle's; None where the method has none.
        confidence: [N, H, W] in 0..1, a factor per pixel; None: 1 everywhere.
        pixels: the mean number of labelled pixels of a part, see `muhdi.losses.cross_entropy`.
    """

    images: Tensor
    labels: Tensor | None = None
    confidence: Tensor | None = None
    pixels: Tensor | None = None

    def split(self, parts: int) -> list[TargetBatch]:
        """The batch in so many equal parts."""
        pixels = None if self.pixels is None else self.pixels / parts
        images, labels, confidence = (
            [None] * parts if tensor is None else tensor.chunk(parts)
            for tensor in (self.images, self.labels, self.confidence)
        )
        return [
            TargetBatch(image, label, factor, pixels)  # type: ignore[arg-type]
            for image, label, factor in zip(images, labels, confidence, strict=True)
        ]


class Adaptation(nn.Module):
    """Base of all adaptations.

    By itself it is ``none``, the control: target images only pass through the network.

    The iteration calls the methods in the order in which they stand here. Whatever a method trains
    or averages is a submodule, so that its state is saved with the run.

    A batch may be computed in parts, and each process of several has a part of it, too:
    `target_batch` is called once per iteration, `on_target` once per part.

    Attributes:
        trains: whether `on_target` has losses.
        optimizer: of the method's own networks, if it has some.
        learning_rate: with which that optimizer starts.
    """

    trains: bool = False
    optimizer: Optimizer | None = None
    learning_rate: float = 0.0

    def networks(self) -> dict[str, nn.Module]:
        """Networks of the method's own that are worth a file at the end of the step, by name."""
        return {}

    def target_batch(
        self,
        source_images: Tensor,
        source_labels: Tensor,
        target_images: Tensor,
        target_labels: Tensor | None,
    ) -> TargetBatch:
        """The images of the second forward pass, with what belongs to them.

        ``target_labels`` is None but for the oracle: for every other method the labels are not even
        opened.
        """
        return TargetBatch(target_images)

    def on_target(self, logits: Levels, batch: TargetBatch) -> Losses:
        """Losses of the learning head on the images of (a part of) ``batch``.

        ``logits`` at their size.
        """
        return {}

    def update(self, model: Segmenter, source: Levels, target: Levels) -> Losses:
        """After both backward passes, if there is an `optimizer`: train the method's own networks.

        Returns what to log.

        Args:
            model: the network, before this iteration's optimizer step.
            source: the learning head's logits on the source images, detached.
            target: the same on the images of `target_batch`.
        """
        return {}

    def after_step(self, model: Segmenter) -> None:
        """After the network's optimizer step: mean teachers follow here."""
