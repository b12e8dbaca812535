"""The upper bound: supervised training on the target.

No adaptation, but what one is measured against.
"""

from __future__ import annotations

from torch import Tensor

from muhdi import distributed
from muhdi.adaptation.base import Adaptation, TargetBatch
from muhdi.losses import Losses, cross_entropy, labelled_pixels
from muhdi.models.segmenter import Levels
from muhdi.recipe.methods import OracleConfig


class Oracle(Adaptation):
    """L = w_main CE(s_main, y) + w_aux CE(s_aux, y), with the target's true labels y."""

    trains = True

    def __init__(self, config: OracleConfig) -> None:
        super().__init__()
        self.weights = {"aux": config.weight_aux, "main": config.weight_main}

    def target_batch(
        self,
        source_images: Tensor,
        source_labels: Tensor,
        target_images: Tensor,
        target_labels: Tensor | None,
    ) -> TargetBatch:
        assert target_labels is not None
        return TargetBatch(
            target_images,
            target_labels,
            pixels=distributed.all_reduce_mean(labelled_pixels(target_labels)),
        )

    def on_target(self, logits: Levels, batch: TargetBatch) -> Losses:
        assert batch.labels is not None
        return {
            f"oracle_{name}": (
                self.weights[name] * cross_entropy(level, batch.labels, pixels=batch.pixels)
            )
            for name, level in logits.items()
        }
