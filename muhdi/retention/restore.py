"""Stochastic restore: now and then a weight goes back to where it was."""

from __future__ import annotations

import torch

from muhdi.draws import HostDraws
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.restoring import restore_some
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.retentions import RestoreConfig
from muhdi.retention.base import Retention
from muhdi.retention.weights import NamedTensors, trained_weights


class StochasticRestore(Retention):
    """CoTTA's restore, see `restore_some` (Wang et al. 2022, equations 7 and 8).

    After every update each element of every trained weight returns with probability p to θ*. CoTTA
    returns to the source's network; here θ* is what it was at the end of the previous step. A mean
    teacher has followed the update before, as in CoTTA.
    """

    config_class = RestoreConfig
    config: RestoreConfig

    def __init__(self, config: RestoreConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.draws = HostDraws(context.generator)
        self.anchor = NamedTensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.anchor.fill(trained_weights(network))

    def after_step(self, network: Segmenter) -> None:
        device = next(network.parameters()).device
        # One number is the same in every process; the many are drawn where the weights lie.
        draws = torch.Generator(device).manual_seed(self.draws.next().getrandbits(62))
        for name, weight in trained_weights(network).items():
            if name in self.anchor:
                restore_some(weight, self.anchor[name], self.config.probability, draws)
