"""MuHDi: multi-head distillation (Saporta et al. 2022, section 3)."""

from __future__ import annotations

from muhdi.losses import Losses
from muhdi.models.segmenter import AGNOSTIC, SPECIALIST, Outputs, Segmenter
from muhdi.recipe.methods import MuHDiConfig
from muhdi.retention.base import distil
from muhdi.retention.distill import Distill


class MuHDi(Distill):
    """Two heads and three teachings.

    The specialist learns the current target; the agnostic head learns only by distillation:

    * on source images from the old model, as in `Distill` (eq. 5 and 7);
    * on target images from the specialist, on upsampled logits (eq. 6):
      w_kt [KL(sg specialist_main || agnostic_main) + 0.1 KL(sg specialist_aux || agnostic_aux)],
      where sg stops the gradient.

    Args:
        config: the weights.
        old: the network at the end of the previous step.
    """

    heads = (AGNOSTIC, SPECIALIST)
    learner = SPECIALIST

    def __init__(self, config: MuHDiConfig, old: Segmenter) -> None:
        super().__init__(config, old)
        aux = config.aux if config.aux_target is None else config.aux_target
        self.target = {"aux": config.weight_target * aux, "main": config.weight_target}
        self.teaches_on_target = any(self.target[level] for level in old.levels)
        self.kind, self.start = config.target_loss, config.heads

    def on_target(self, outputs: Outputs, size: tuple[int, int]) -> Losses:
        specialist = outputs.heads[SPECIALIST].detach().upsampled(size)
        agnostic = outputs.heads[AGNOSTIC].upsampled(size)
        return distil("kt", specialist, agnostic, self.target, self.kind, self.config.kl_reduction)
