"""Single-head distillation: the frozen old model teaches the one head.

The control for MuHDi's two heads.
"""

from __future__ import annotations

from torch import Tensor

from muhdi.losses import Losses, local_pod
from muhdi.models.segmenter import AGNOSTIC, Outputs, Segmenter
from muhdi.models.teacher import Teacher
from muhdi.recipe.methods import DistillConfig
from muhdi.retention.base import Retention, distil


class Distill(Retention):
    """The old model teaches on source images.

    MuHDi, eq. 5 and 7, with its one head in the agnostic head's place:

    w_kd [KL(old_main || agnostic_main) + 0.1 KL(old_aux || agnostic_aux)] + w_pod POD(old stages,
    new stages), on raw logits at low resolution.

    Args:
        config: the weights and the KL's reduction.
        old: the network at the end of the previous step.
    """

    def __init__(self, config: DistillConfig, old: Segmenter) -> None:
        super().__init__()
        self.config = config
        self.old = Teacher(old, config.old_statistics)

    def on_source(self, outputs: Outputs, images: Tensor) -> Losses:
        old = self.old(images)
        weights = {
            "aux": self.config.weight_source * self.config.aux,
            "main": self.config.weight_source,
        }
        losses = distil(
            "kd",
            old.heads[AGNOSTIC],
            outputs.heads[AGNOSTIC],
            weights,
            "kl",
            self.config.kl_reduction,
        )
        if self.config.weight_pod:
            losses["pod"] = self.config.weight_pod * local_pod(old.stages, outputs.stages)
        return losses
