"""The upper bound: supervised training on the target.

No adaptation, but what one is measured against.
"""

from __future__ import annotations

from muhdi.adaptation.base import Adaptation, level_weights
from muhdi.losses import Losses
from muhdi.models.outputs import Levels
from muhdi.passes import Batch, level_cross_entropy
from muhdi.recipe.methods import OracleConfig


class Oracle(Adaptation):
    """L = w_main CE(s_main, y) + w_aux CE(s_aux, y), with the target's true labels y."""

    config_class = OracleConfig
    config: OracleConfig

    def on_target(self, logits: Levels, batch: Batch) -> Losses:
        return level_cross_entropy("oracle", logits, batch, level_weights(self.config))
