"""A small residual net, for work on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from muhdi.models.backbones.base import (
    FeatureInfo,
    FourStages,
    Normalise,
    projection,
)
from muhdi.recipe.backbones import SmallConfig

WIDTHS = (16, 16, 32, 32, 48)
"""Channels of the stem and of the four stages."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]


class SmallResNet(FourStages):
    """Residual net of about a hundred thousand parameters and output stride 4."""

    config_class = SmallConfig
    first_convolution = "conv1"

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        stem, first, second, third, fourth = WIDTHS
        self.features = [
            FeatureInfo(first, 2),
            FeatureInfo(second, 4),
            FeatureInfo(third, 4),
            FeatureInfo(fourth, 4),
        ]
        self.normalise = Normalise((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = BasicBlock(stem, first, 1, 1)
        self.layer2 = BasicBlock(first, second, 2, 1)
        self.layer3 = BasicBlock(second, third, 1, 2)
        self.layer4 = BasicBlock(third, fourth, 1, 4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.relu(self.bn1(self.conv1(self.normalise(images))))
        features = []
        for block in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = self.through(block, x)
            features.append(x)
        return tuple(features)
