"""The small network, with layer norms where it has batch norms."""

from __future__ import annotations

from torch import nn

from muhdi.models.backbones.small import SmallResNet
from muhdi.models.decoders import ChannelNorm
from muhdi.recipe.backbones import SmallConfig


class SmallLayerNorm(SmallResNet):
    """`small`, each pixel of whose features is normalised over its channels, as in transformers.

    It has no running averages that could be forgotten, and none that could be adapted.
    """

    def __init__(self, config: SmallConfig) -> None:
        super().__init__(config)
        _replace_batch_norms(self)


def _replace_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, ChannelNorm(child.num_features))
        else:
            _replace_batch_norms(child)
