"""MuHDi: multi-head distillation (Saporta et al. 2022, section 3)."""

from __future__ import annotations

from copy import deepcopy

from muhdi.losses import Losses
from muhdi.models.outputs import AGNOSTIC, SPECIALIST, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch, merged
from muhdi.recipe.retentions import MuHDiConfig
from muhdi.retention.base import teach_agnostic
from muhdi.retention.distill import Distill


class MuHDi(Distill):
    """Two heads and three teachings.

    The specialist learns the current target; the agnostic head learns only by distillation:

    * on source images from the old model, as in `Distill` (eq. 5 and 7);
    * on target images from the specialist, see `teach_agnostic` (eq. 6).

    Of several targets that are learned together there is one specialist.
    """

    config_class = MuHDiConfig
    config: MuHDiConfig

    @classmethod
    def trained_heads(cls, targets: int) -> tuple[str, ...]:
        return (SPECIALIST,) * targets

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
        aux = self.config.aux if self.config.aux_target is None else self.config.aux_target
        taught = teach_agnostic(self.config, aux, SPECIALIST, outputs, batch)
        return merged(super().on_target(outputs, batch), taught)
