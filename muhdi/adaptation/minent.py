"""MinEnt: minimise the entropy of the predictions on the target (Vu et al. 2019, section 3.1)."""

from __future__ import annotations

from muhdi.adaptation.base import Adaptation, level_weights
from muhdi.losses import Losses, entropy
from muhdi.models.outputs import Levels
from muhdi.passes import Batch
from muhdi.recipe.methods import MinEntConfig


class MinEnt(Adaptation):
    """L = w_main H(p_main) + w_aux H(p_aux) on the target.

    H is normalised to 0..1 and averaged over pixels (ADVENT, eq. 3).
    """

    config_class = MinEntConfig
    config: MinEntConfig

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        weights = level_weights(self.config)
        return {
            f"ent_{name}": weights[name] * entropy(level.softmax(1))
            for name, level in logits.items()
        }
