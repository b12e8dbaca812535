"""Weight averaging: a step ends between where it began and where it came to."""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.retentions import AverageConfig
from muhdi.retention.base import Retention
from muhdi.retention.weights import NamedTensors, trained_weights


class WeightAveraging(Retention):
    """θ <- a θ* + (1 - a) θ at the end of the step (WiSE-FT, Wortsman et al. 2022, eq. 1).

    θ* are the weights at the end of the previous step. Buffers, such as running statistics, are
    averaged in the same way. Training itself costs nothing more.
    """

    config_class = AverageConfig
    config: AverageConfig

    def __init__(self, config: AverageConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.anchor = NamedTensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.anchor.fill(_averaged(network))

    @torch.no_grad()
    def settle(self, network: Segmenter) -> None:
        for name, value in _averaged(network).items():
            # A head that this step has added has nothing to be averaged with.
            if name in self.anchor:
                value.lerp_(self.anchor[name], self.config.old)


def _averaged(network: Segmenter) -> dict[str, Tensor]:
    """Trained weights and running statistics, by name."""
    buffers = {name: value for name, value in network.named_buffers() if value.is_floating_point()}
    return {**trained_weights(network), **buffers}
