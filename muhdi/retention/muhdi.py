"""MuHDi: multi-head distillation (Saporta et al. 2022, section 3)."""

from __future__ import annotations

from copy import deepcopy

from muhdi.losses import Losses
from muhdi.models.outputs import AGNOSTIC, SPECIALIST, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch, merged
from muhdi.recipe.retentions import MuHDiConfig
from muhdi.retention.base import distil
from muhdi.retention.distill import Distill


class MuHDi(Distill):
    """Two heads and three teachings.

    The specialist learns the current target; the agnostic head learns only by distillation:

    * on source images from the old model, as in `Distill` (eq. 5 and 7);
    * on target images from the specialist, on upsampled logits (eq. 6):
      w_kt [KL(sg specialist_main || agnostic_main) + w_aux KL(sg specialist_aux || agnostic_aux)],
      where sg stops the gradient.
    """

    config_class = MuHDiConfig
    config: MuHDiConfig
    trained_head = SPECIALIST

    def start_heads(self, network: Segmenter) -> None:
        """How the two heads start, by ``config.heads``.

        ``copy``: the agnostic head stays, the specialist is its copy. ``reference``: as the
        published code restores a checkpoint: a specialist that the network has stays, and the
        agnostic head becomes its copy; where it has none, the specialist starts at random.
        """
        agnostic = network.heads[AGNOSTIC]
        if self.config.heads == "copy":
            specialist = deepcopy(agnostic)
        elif SPECIALIST in network.heads:
            specialist = network.heads[SPECIALIST]
            agnostic = deepcopy(specialist)
        else:
            specialist = network.new_head()
        network.set_heads({AGNOSTIC: agnostic, SPECIALIST: specialist})

    @property
    def learns_on_target(self) -> bool:
        return True

    def on_target(self, outputs: Outputs, batch: Batch) -> Losses:
        config = self.config
        aux = config.aux if config.aux_target is None else config.aux_target
        weights = {"aux": config.weight_target * aux, "main": config.weight_target}
        specialist = outputs.upsampled(SPECIALIST, batch.size).detach()
        agnostic = outputs.upsampled(AGNOSTIC, batch.size)
        reduction = "mse" if config.target_loss == "mse" else config.kl_reduction
        from_the_specialist = distil("kt", specialist, agnostic, weights, reduction)
        return merged(super().on_target(outputs, batch), from_the_specialist)
