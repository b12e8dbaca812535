"""Backbones: images in, the outputs of four stages out.

A backbone takes plain RGB images (uint8, or float in 0..255) and owns their normalisation, so that
neither data code nor an exported model has to know it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stages = tuple[Tensor, Tensor, Tensor, Tensor]


class Backbone(nn.Module):
    """What a `Segmenter` needs of a backbone.

    Attributes:
        channels: channels of the outputs of stages 3 and 4, on which the aux and the main level
            stand.
        dilations: dilations of the classifiers that suit its resolution.
    """

    channels: tuple[int, int]
    dilations: tuple[int, ...]

    def forward(self, images: Tensor) -> Stages:
        """Images [N, 3, H, W], RGB 0..255 -> outputs of stages 1 to 4, each after its ReLU."""
        raise NotImplementedError


class Normalise(nn.Module):
    """(x - mean) / std per channel, on RGB values of 0..255.

    ``bgr`` turns the channels round first.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], *, bgr: bool = False
    ) -> None:
        super().__init__()
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(self.mean.dtype)
        return ((images.flip(1) if self.bgr else images) - self.mean) / self.std


def pointwise(x: Tensor, weight: Tensor, stride: tuple[int, ...] = (1, 1)) -> Tensor:
    """The 1x1 convolution of a map [N, K, h, w] with a weight [C, K, 1, 1].

    On one CPU thread PyTorch leaves 1x1 convolutions of small batches to a matrix product that is
    up to 1.6 times slower than oneDNN's kernel, unless they are dilated. To a 1x1 kernel dilation
    means nothing, so here they are.
    """
    return F.conv2d(x, weight, None, stride, 0, 2 if x.device.type == "cpu" else 1)


class Pointwise(nn.Conv2d):
    """`pointwise` as a layer, without bias."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.weight, self.stride)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings a block's shortcut to the block's channels and resolution, where they differ."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(Pointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the stride is on the first (He et al.

    2016, as in Caffe).
    """

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = Pointwise(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = Pointwise(width, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)  # type: ignore[no-any-return]


class DilatedResNet(Backbone):
    """ResNet whose stages 3 and 4 keep stride 8 by dilation 2 and 4 (DeepLab-v2, Chen et al. 2017).

    Scale and shift of its batch norms are frozen; their statistics are not. Parameter names are
    those of torchvision and of the reference.

    Args:
        blocks: blocks per stage: (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) is ResNet-101.
    """

    channels = (1024, 2048)
    dilations = (6, 12, 18, 24)

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.normalise = Normalise(
            (104.00698793, 116.66876762, 122.67891434), (1.0, 1.0, 1.0), bgr=True
        )
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.layer1 = self._stage(64, 64, blocks[0], 1, 1)
        self.layer2 = self._stage(256, 128, blocks[1], 2, 1)
        self.layer3 = self._stage(512, 256, blocks[2], 1, 2)
        self.layer4 = self._stage(1024, 512, blocks[3], 1, 4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.01)
            elif isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    @staticmethod
    def _stage(inputs: int, width: int, count: int, stride: int, dilation: int) -> nn.Sequential:
        first = Bottleneck(inputs, width, stride, dilation)
        return nn.Sequential(
            first, *(Bottleneck(4 * width, width, 1, dilation) for _ in range(count - 1))
        )

    def forward(self, images: Tensor) -> Stages:
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.normalise(images)))))
        s1 = self.layer1(x)
        s2 = self.layer2(s1)
        s3 = self.layer3(s2)
        return s1, s2, s3, self.layer4(s3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is projected where channels or resolution change."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]


class SmallResNet(Backbone):
    """Residual net of about a hundred thousand parameters and output stride 4, for work on a CPU.

    Args:
        widths: channels of the stem and of the four stages.
    """

    dilations = (1, 3, 6, 9)

    def __init__(self, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.channels = widths[3:]
        self.normalise = Normalise((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
        self.conv1 = nn.Conv2d(3, widths[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = BasicBlock(widths[0], widths[1], 1, 1)
        self.layer2 = BasicBlock(widths[1], widths[2], 2, 1)
        self.layer3 = BasicBlock(widths[2], widths[3], 1, 2)
        self.layer4 = BasicBlock(widths[3], widths[4], 1, 4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Stages:
        # Channels last is faster at these widths on a CPU.
        images = self.normalise(images).contiguous(memory_format=torch.channels_last)
        x = self.relu(self.bn1(self.conv1(images)))
        s1 = self.layer1(x)
        s2 = self.layer2(s1)
        s3 = self.layer3(s2)
        return s1, s2, s3, self.layer4(s3)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "small": lambda: SmallResNet((16, 16, 32, 32, 48)),
    "resnet50": lambda: DilatedResNet((3, 4, 6, 3)),
    "resnet101": lambda: DilatedResNet((3, 4, 23, 3)),
}
"""Backbones by the name that recipes use."""
