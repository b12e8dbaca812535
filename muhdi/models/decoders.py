"""From features to logits: what heads share, the decoder, and what each has, a classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.backbones.base import FeatureInfo
from muhdi.recipe.backbones import DecoderName


class Lateral(nn.Module):
    """All features brought to the finest one, summed and mixed: cheap, for pyramids.

    A 1x1 convolution with batch norm for each feature, bilinear enlargement, the sum, a depthwise
    3x3 and a 1x1 convolution, batch norm, ReLU.

    Args:
        features: what the backbone gives.
        width: channels of what it gives itself, at the stride of the finest feature.
    """

    def __init__(self, features: list[FeatureInfo], width: int = 64) -> None:
        super().__init__()
        self.output = FeatureInfo(width, features[0].stride)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(feature.channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for feature in features
        )
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Maps [N, K_i, h_i, w_i], the finest first -> one map [N, width, h_0, w_0]."""
        first, *coarser = features
        total: Tensor = self.laterals[0](first)
        size = [first.shape[2], first.shape[3]]
        for lateral, feature in zip(self.laterals[1:], coarser, strict=True):
            total = total + F.interpolate(
                lateral(feature), size=size, mode="bilinear", align_corners=False
            )
        mixed: Tensor = self.mix(total)
        return mixed


def build_decoder(name: DecoderName, features: list[FeatureInfo]) -> Lateral | None:
    """What heads share; None where they stand on the backbone's features."""
    return Lateral(features) if name == "lateral" else None


class AsppSum(nn.Module):
    """Sum of dilated 3x3 convolutions, one per dilation (DeepLab-v2's ASPP without fusion)."""

    def __init__(self, channels: int, classes: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.convs = nn.ModuleList(nn.Conv2d(channels, classes, 3, 1, d, d) for d in dilations)
        for weight in self.weights():
            nn.init.normal_(weight, 0.0, 0.01)

    def weights(self) -> list[Tensor]:
        """One weight [C, K, 3, 3] per dilation."""
        return [conv.get_parameter("weight") for conv in self.convs]

    def bias(self) -> Tensor:
        """The sum of the dilations' biases, [C]."""
        # One after another: the gradient of a stacked sum would be one storage for all of them, to
        # which the second backward pass of an iteration would add once per bias.
        first, *others = (conv.get_parameter("bias") for conv in self.convs)
        total: Tensor = first
        for bias in others:
            total = total + bias
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, K, h, w] -> logits [N, C, h, w]."""
        first, *others = self.convs
        logits: Tensor = first(x)
        for conv in others:
            logits = logits + conv(x)
        return logits


def decode_each(decoders: list[AsppSum], x: Tensor) -> list[Tensor]:
    """Logits [N, C, h, w] of several decoders on one map [N, K, h, w], one after another."""
    return [decoder(x) for decoder in decoders]
