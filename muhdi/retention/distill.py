"""Single-head distillation: the frozen old model teaches the one head.

The control for MuHDi's two heads.
"""

from __future__ import annotations

from muhdi.losses import Losses, local_pod
from muhdi.method import Batches, Memory
from muhdi.models.outputs import AGNOSTIC, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch
from muhdi.recipe.retentions import DistillConfig
from muhdi.retention.base import Retention, distil


class Distill(Retention):
    """The old model teaches on source images.

    MuHDi, eq. 5 and 7, with its one head in the agnostic head's place:

    w_kd [KL(old_main || agnostic_main) + w_aux KL(old_aux || agnostic_aux)]
    + w_pod POD(old features, new features),

    on raw logits at low resolution. The old model is the network at the end of the previous step.
    In a step without the source it teaches on what the adaptation's pass on the target sees.
    """

    config_class = DistillConfig
    config: DistillConfig

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.old = Teacher(network, self.config.old_statistics)

    @property
    def learns_on_target(self) -> bool:
        return not self.has_source

    def on_source(self, outputs: Outputs, batch: Batch) -> Losses:
        return self._from_the_old_model(outputs, batch)

    def on_target(self, outputs: Outputs, batch: Batch) -> Losses:
        return {} if self.has_source else self._from_the_old_model(outputs, batch)

    def _from_the_old_model(self, outputs: Outputs, batch: Batch) -> Losses:
        config = self.config
        old = self.old(batch.images)
        weights = {"aux": config.weight_source * config.aux, "main": config.weight_source}
        losses = distil(
            "kd", old.heads[AGNOSTIC], outputs.heads[AGNOSTIC], weights, config.kl_reduction
        )
        # Of a backbone that is frozen, without a decoder's own map, the features stay anyway.
        moving = any(feature.requires_grad for feature in outputs.features)
        if config.weight_pod and moving:
            distance = local_pod(old.features, outputs.features, normalised=config.normalised_pod)
            losses["pod"] = config.weight_pod * distance
        return losses
