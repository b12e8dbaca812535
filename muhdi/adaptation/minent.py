"""MinEnt: minimise the entropy of the predictions on the target (Vu et al. 2019, section 3.1)."""

from __future__ import annotations

from muhdi.adaptation.base import Adaptation, TargetBatch
from muhdi.losses import Losses, entropy
from muhdi.models.segmenter import Levels
from muhdi.recipe.methods import MinEntConfig


class MinEnt(Adaptation):
    """L = w_main H(p_main) + w_aux H(p_aux), H normalised to 0..1 and averaged over pixels (ADVENT, eq. 3)."""

    trains = True

    def __init__(self, config: MinEntConfig) -> None:
        super().__init__()
        self.weights = {"aux": config.weight_aux, "main": config.weight_main}

    def on_target(self, logits: Levels, batch: TargetBatch) -> Losses:
        return {
            f"ent_{name}": self.weights[name] * entropy(level.softmax(1))
            for name, level in logits.items()
        }
