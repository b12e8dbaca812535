"""The upper bound: supervised training on the target. No adaptation, but what one is measured against."""

from __future__ import annotations

from torch import Tensor

from muhdi.adaptation.base import Adaptation
from muhdi.config import OracleConfig
from muhdi.losses import Losses, cross_entropy
from muhdi.models.segmenter import Levels


class Oracle(Adaptation):
    """L = w_main CE(s_main, y) + w_aux CE(s_aux, y), with the target's true labels y."""

    def __init__(self, config: OracleConfig) -> None:
        super().__init__()
        self.weights = {"aux": config.weight_aux, "main": config.weight_main}
        self.labels: Tensor | None = None

    def target_images(
        self, source_images: Tensor, source_labels: Tensor, target_images: Tensor, target_labels: Tensor | None
    ) -> Tensor:
        self.labels = target_labels
        return target_images

    def on_target(self, logits: Levels) -> Losses:
        assert self.labels is not None
        return {
            f"oracle_{name}": self.weights[name] * cross_entropy(level, self.labels) for name, level in logits.items()
        }
