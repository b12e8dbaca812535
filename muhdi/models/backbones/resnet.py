"""DeepLab-v2's dilated ResNet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.backbones.base import (
    FeatureInfo,
    FourStages,
    Normalise,
    projection,
)
from muhdi.recipe.backbones import ResNetConfig

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
"""Blocks per stage."""
WIDTHS = (64, 128, 256, 512)
"""Channels of the 3x3 convolutions of each stage, whose outputs have four times as many."""


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the first has the stride.

    He et al. 2016, as in Caffe.
    """

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]


class RoundedUpPool(nn.Module):
    """3x3 max pool of stride 2 and padding 1, whose output sizes are rounded up.

    Rounding up is one more line of padding on the far sides; what comes from a ReLU may be padded
    with 0. Unlike ``ceil_mode`` it can be exported for images of any size.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (1, 2, 1, 2)), 3, 2)


class DilatedResNet(FourStages):
    """ResNet whose stages 3 and 4 keep stride 8 by dilation 2 and 4 (Chen et al. 2017).

    Parameter names are those of torchvision and of the reference.

    Args:
        config: says how deep it is.
        blocks: per stage, for a depth without a name.
    """

    config_class = ResNetConfig
    first_convolution = "conv1"
    dilations = (6, 12, 18, 24)
    frozen_affine = True

    def __init__(
        self, config: ResNetConfig, blocks: tuple[int, int, int, int] | None = None
    ) -> None:
        super().__init__()
        if blocks is None:
            blocks = BLOCKS[config.name]
        first, second, third, fourth = WIDTHS
        self.features = [
            FeatureInfo(4 * first, 4),
            FeatureInfo(4 * second, 8),
            FeatureInfo(4 * third, 8),
            FeatureInfo(4 * fourth, 8),
        ]
        mean = (104.00698793, 116.66876762, 122.67891434)
        self.normalise = Normalise(mean, (1.0, 1.0, 1.0), bgr=True)
        self.conv1 = nn.Conv2d(3, first, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = RoundedUpPool()
        self.layer1 = self._stage(first, first, blocks[0], 1, 1)
        self.layer2 = self._stage(4 * first, second, blocks[1], 2, 1)
        self.layer3 = self._stage(4 * second, third, blocks[2], 1, 2)
        self.layer4 = self._stage(4 * third, fourth, blocks[3], 1, 4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.01)

    @staticmethod
    def _stage(inputs: int, width: int, count: int, stride: int, dilation: int) -> nn.Sequential:
        blocks = [Bottleneck(inputs, width, stride, dilation)]
        for _ in range(count - 1):
            blocks.append(Bottleneck(4 * width, width, 1, dilation))
        return nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.relu(self.bn1(self.conv1(self.normalise(images))))
        x = self.maxpool(x)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = self.through(block, x)
            features.append(x)
        return tuple(features)
