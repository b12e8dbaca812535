"""The batch norms' running statistics, which a step moves and gives back."""

from __future__ import annotations

import torch

from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import read_statistics
from muhdi.recipe.retentions import StatisticsConfig
from muhdi.retention.base import Retention
from muhdi.retention.weights import NamedTensors


class RunningStatistics(Retention):
    """μ <- μ*, σ² <- σ²* at the end of the step, in every batch norm.

    μ* and σ²* are the running statistics at the end of the previous step. In the step they follow
    its batches as ever: whoever teaches with them needs those of the images that it sees. But
    without the source they have forgotten all other domains by the end. Weights are left alone.
    """

    config_class = StatisticsConfig
    config: StatisticsConfig

    def __init__(self, config: StatisticsConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.anchor = NamedTensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.anchor.fill(read_statistics(network))

    @torch.no_grad()
    def settle(self, network: Segmenter) -> None:
        for name, buffer in network.named_buffers():
            if name in self.anchor:
                buffer.copy_(self.anchor[name])
