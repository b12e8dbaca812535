"""MTKT: multi-target knowledge transfer (Saporta et al. 2021, "Multi-Target Adversarial Frameworks
for Domain Adaptation in Semantic Segmentation", section 3.3)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import nn

from muhdi.losses import Losses
from muhdi.method import MethodContext
from muhdi.models.outputs import AGNOSTIC, Outputs, specialist
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch
from muhdi.recipe.retentions import MTKTConfig
from muhdi.retention.base import Retention, teach_agnostic


class MTKT(Retention):
    """A specialist for each target, and an agnostic head that all of them teach.

    Every specialist learns from the source's labels and by the adaptation, each on its own target.
    The agnostic head never sees a label: with the specialist i of target i it learns
    w_kt sum_i [KL(sg main_i || agnostic_main) + w_aux KL(sg aux_i || agnostic_aux)] on upsampled
    logits, see `teach_agnostic`, from iteration ``teacher_iterations`` on. It is what the network
    answers with.
    """

    config_class = MTKTConfig
    config: MTKTConfig

    def __init__(self, config: MTKTConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.targets = len(context.targets)
        self.updates = 0

    @classmethod
    def trained_heads(cls, targets: int) -> tuple[str, ...]:
        return tuple(specialist(number) for number in range(targets))

    def start_heads(self, network: Segmenter) -> None:
        agnostic = network.heads[AGNOSTIC]
        heads: dict[str, nn.Module] = {AGNOSTIC: agnostic}
        for name in self.trained_heads(self.targets):
            fresh = self.config.heads == "fresh"
            heads[name] = network.new_head() if fresh else deepcopy(agnostic)
        network.set_heads(heads)

    def on_target(self, outputs: Outputs, batch: Batch) -> Losses:
        config = self.config
        if self.updates < config.teacher_iterations:
            return {}
        aux = config.aux / self.targets if config.mean_aux else config.aux
        return teach_agnostic(config, aux, specialist(batch.target), outputs, batch)

    def after_step(self, network: Segmenter) -> None:
        self.updates += 1

    def get_extra_state(self) -> dict[str, Any]:
        """What is saved besides tensors."""
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What `get_extra_state` gave."""
        self.updates = state["updates"]
