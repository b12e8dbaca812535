"""The small network, with layer norms where it has batch norms."""

from __future__ import annotations

from muhdi.models.backbones.small import SmallResNet
from muhdi.models.decoders import ChannelNorm
from muhdi.models.image_norms import replace_norm
from muhdi.models.statistics import batch_norms
from muhdi.recipe.backbones import SmallConfig


class SmallLayerNorm(SmallResNet):
    """`small`, each pixel of whose features is normalised over its channels, as in transformers.

    It has no running averages that could be forgotten, and none that could be adapted.
    """

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        for name, norm in batch_norms(self).items():
            replace_norm(self, name, ChannelNorm(norm.num_features))
