"""EfficientNet-Lite: inverted residuals without squeeze-excitation, for CPUs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from torch import Tensor, nn

from muhdi.models.backbones.base import Backbone, FeatureInfo, Normalise, number_after
from muhdi.recipe.backbones import EfficientNetLiteConfig

EPS = 1e-3
"""Of the batch norms, as the published weights were trained."""
MOMENTUM = 0.05
"""Of the batch norms; a sequence is too short for the published 0.01."""
STEM = 32
"""Channels of the stem, which no width changes."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution.

    Attributes:
        kernel: side of the depthwise convolutions.
        blocks: how many, before the depth is scaled.
        channels: that they give, before the width is scaled.
        expansion: channels inside a block, as a multiple of those that come in.
        stride: of the first block.
    """

    kernel: int
    blocks: int
    channels: int
    expansion: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)
"""Tan and Le 2019, EfficientNet, table 1."""
GIVEN = {1: 4, 2: 8, 4: 16, 6: 32}
"""Position of a stage whose maps are given -> stride."""
SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
"""Width and depth."""

_PUBLISHED = re.compile(r"_blocks\.(\d+)\._(expand_conv|depthwise_conv|project_conv|bn[012])\.(.+)")
"""Names of the published PyTorch weights."""
_OWN = {
    "expand_conv": "expand",
    "bn0": "expand_norm",
    "depthwise_conv": "depthwise",
    "bn1": "depthwise_norm",
    "project_conv": "project",
    "bn2": "project_norm",
}
_STEM_NAMES = {"_conv_stem.": "stem.", "_bn0.": "stem_norm."}
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and a shortcut where shapes agree.

    Sandler et al. 2018, MobileNetV2, with ReLU6 as EfficientNet-Lite has it.
    """

    def __init__(self, inputs: int, stage: Stage, outputs: int, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self.expand: nn.Module | None = None
        if stage.expansion > 1:
            self.expand = nn.Conv2d(inputs, inner, 1, bias=False)
            self.expand_norm = _norm(inner)
        self.depthwise = nn.Conv2d(
            inner, inner, stage.kernel, stride, stage.kernel // 2, groups=inner, bias=False
        )
        self.depthwise_norm = _norm(inner)
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.project_norm = _norm(outputs)
        self.relu = nn.ReLU6(inplace=True)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        if self.expand is not None:
            inner = self.relu(self.expand_norm(self.expand(x)))
        inner = self.relu(self.depthwise_norm(self.depthwise(inner)))
        given: Tensor = self.project_norm(self.project(inner))
        return given + x if self.shortcut else given


class EfficientNetLite(Backbone):
    """EfficientNet-Lite without its classifier; features of strides 4, 8, 16 and 32.

    The published network pads convolutions of stride 2 at the far sides alone; here padding is
    symmetric, so that features lie where those of other backbones do.

    Args:
        config: says which one.
    """

    config_class = EfficientNetLiteConfig
    first_convolution = "stem"
    dilations = (1,)
    family = "pyramid"
    decoder = "lateral"
    recomputes = True

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        width, depth = SCALES[config.name]
        self.normalise = Normalise((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
        self.stem = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.stem_norm = _norm(STEM)
        self.relu = nn.ReLU6(inplace=True)
        self.features = []
        blocks: list[nn.Module] = []
        self._given: list[int] = []
        inputs = STEM
        for position, stage in enumerate(STAGES):
            outputs = _scaled_width(stage.channels, width)
            for number in range(_scaled_depth(position, depth)):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedResidual(inputs, stage, outputs, stride))
                inputs = outputs
            if position in GIVEN:
                self.features.append(FeatureInfo(outputs, GIVEN[position]))
                self._given.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def depth(self) -> int:
        """The stem and every block."""
        return 1 + len(self.blocks)

    def layer_of(self, parameter: str) -> int:
        """Block i is layer i + 1; the stem is layer 0."""
        block = number_after("blocks.", parameter)
        return 0 if block is None else block + 1

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.relu(self.stem_norm(self.stem(self.normalise(images))))
        features = []
        for position, block in enumerate(self.blocks):
            x = self.through(block, x)
            if position in self._given:
                features.append(x)
        return tuple(features)

    def renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The published weights, whose classifier is left out."""
        if not any(_PUBLISHED.match(name) for name in tensors):
            return None
        found = {}
        for name, value in tensors.items():
            own = _own_name(name)
            if own is not None:
                found[f"backbone.{own}"] = value
        return found


def _own_name(name: str) -> str | None:
    """What a published weight is called here; None for one of the classifier."""
    for published, own in _STEM_NAMES.items():
        if name.startswith(published):
            return own + name[len(published) :]
    if name.startswith(_CLASSIFIER):
        return None
    match = _PUBLISHED.match(name)
    if match is None:
        return name  # loading the weights will refuse it by this name
    block, part, rest = match.groups()
    return f"blocks.{block}.{_OWN[part]}.{rest}"


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)


def _scaled_width(channels: int, width: float) -> int:
    """A multiple of 8 that is not less than 0.9 times what is asked for."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _scaled_depth(position: int, depth: float) -> int:
    """Blocks of a stage; the first and the last stage keep theirs."""
    blocks = STAGES[position].blocks
    if position in (0, len(STAGES) - 1):
        return blocks
    return math.ceil(blocks * depth)
