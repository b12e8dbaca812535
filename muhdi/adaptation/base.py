"""What every adaptation is: how the network learns a new target domain without labels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from muhdi.losses import Losses
from muhdi.models.segmenter import Levels, Segmenter


class Adaptation(nn.Module):
    """Base of all adaptations; by itself it is ``none``, the control: target images only pass through the network.

    The iteration calls the methods in the order in which they stand here. Whatever a method trains or averages is a
    submodule, so that its state is saved with the run.

    Attributes:
        optimizer: of the method's own networks, if it has some.
        learning_rate: with which that optimizer starts.
    """

    optimizer: Optimizer | None = None
    learning_rate: float = 0.0

    def networks(self) -> dict[str, nn.Module]:
        """Networks of the method's own that are worth a file at the end of the step, by name."""
        return {}

    def target_images(
        self, source_images: Tensor, source_labels: Tensor, target_images: Tensor, target_labels: Tensor | None
    ) -> Tensor:
        """The images [N, 3, H, W] of the second forward pass: the target's own, or made from both domains.

        ``target_labels`` is None but for the oracle: for every other method the labels are not even opened.
        """
        return target_images

    def on_target(self, logits: Levels) -> Losses:
        """Losses of the learning head on these images; ``logits`` at the size of the images."""
        return {}

    def update(self, model: Segmenter, source: Levels, target: Levels) -> Losses:
        """After both backward passes: train the method's own networks; returns what is worth logging.

        Args:
            model: the network, before this iteration's optimizer step.
            source: the learning head's logits on the source images, detached.
            target: the same on the images of `target_images`.
        """
        return {}

    def after_step(self, model: Segmenter) -> None:
        """After the network's optimizer step: mean teachers follow here."""
