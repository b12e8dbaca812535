"""Blended pseudo-labels: the network of the previous step has a say in them."""

from __future__ import annotations

from torch import Tensor

from muhdi.method import Batches, Memory
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.recipe.retentions import BlendConfig
from muhdi.retention.base import Retention


class BlendedLabels(Retention):
    """p = (1 - b) p_teacher + b p_old, from which the pseudo-labels are made.

    After arXiv 2401.07459, whose code is not public: here b is a constant, and the old model is the
    network at the end of the previous step, frozen, where the paper has its teacher; in the first
    step it is the source's. What both are sure of stays; where they differ the label is less sure,
    and may not count at all.
    """

    config_class = BlendConfig
    config: BlendConfig

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.old = Teacher(network, self.config.old_statistics)

    def blended(self, images: Tensor, probabilities: Tensor) -> Tensor:
        return probabilities.lerp(self.old.probabilities(images), self.config.old)
