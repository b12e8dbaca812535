"""The network: one backbone and named heads of two levels each."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

from torch import Tensor, nn

from muhdi.losses import upsample
from muhdi.models.backbones import BACKBONES, Backbone

AGNOSTIC = "agnostic"
"""The head that is the model's output; it must serve every domain."""

SPECIALIST = "specialist"
"""The head that learns the current target, with MuHDi."""


class Levels(NamedTuple):
    """Logits of one head at low resolution, [N, C, h, w]: ``aux`` after stage 3, ``main`` after stage 4."""

    aux: Tensor
    main: Tensor

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """The two levels by name, aux first."""
        return ("aux", self.aux), ("main", self.main)

    def upsampled(self, size: tuple[int, int]) -> Levels:
        """Both levels at ``size`` (height, width)."""
        return Levels(upsample(self.aux, size), upsample(self.main, size))

    def detach(self) -> Levels:
        """Both levels, cut off from the graph."""
        return Levels(self.aux.detach(), self.main.detach())


class Outputs(NamedTuple):
    """What one forward pass gives: logits per head, and the outputs of the four stages."""

    heads: dict[str, Levels]
    stages: tuple[Tensor, ...]


class Classifier(nn.Module):
    """Sum of dilated 3x3 convolutions, one per dilation (DeepLab-v2's ASPP without fusion)."""

    def __init__(self, channels: int, classes: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, classes, 3, 1, d, d) for d in dilations)
        for conv in self.convs:
            nn.init.normal_(conv.weight, 0.0, 0.01)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.convs
        logits: Tensor = first(x)
        for conv in others:
            logits = logits + conv(x)
        return logits


class Head(nn.Module):
    """One classifier on stage 3 (aux) and one on stage 4 (main)."""

    def __init__(self, channels: tuple[int, int], classes: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.aux = Classifier(channels[0], classes, dilations)
        self.main = Classifier(channels[1], classes, dilations)

    def forward(self, stages: tuple[Tensor, ...]) -> Levels:
        return Levels(self.aux(stages[2]), self.main(stages[3]))


class Segmenter(nn.Module):
    """A backbone and its heads.

    Args:
        backbone: the feature extractor.
        classes: number of classes C.
        heads: names of the heads, among them the agnostic one.
    """

    def __init__(self, backbone: Backbone, classes: int, heads: tuple[str, ...] = (AGNOSTIC,)) -> None:
        super().__init__()
        self.classes = classes
        self.backbone = backbone
        self.heads = nn.ModuleDict({name: Head(backbone.channels, classes, backbone.dilations) for name in heads})

    def forward(self, images: Tensor) -> Outputs:
        """Images [N, 3, H, W], RGB, uint8 or float in 0..255 -> logits of every head and the stage outputs."""
        stages = self.backbone(images)
        return Outputs({name: head(stages) for name, head in self.heads.items()}, stages)

    def segment(self, images: Tensor, head: str = AGNOSTIC) -> Tensor:
        """Images [N, 3, H, W] -> low-resolution main logits [N, C, h, w] of one head."""
        levels: Levels = self.heads[head](self.backbone(images))
        return levels.main

    def set_heads(self, names: tuple[str, ...]) -> None:
        """Keep the agnostic head; every other head of ``names`` starts as its copy, and there are no others."""
        agnostic = self.heads[AGNOSTIC]
        self.heads = nn.ModuleDict({name: agnostic if name == AGNOSTIC else deepcopy(agnostic) for name in names})


def build_segmenter(backbone: str, classes: int, heads: tuple[str, ...] = (AGNOSTIC,)) -> Segmenter:
    """A freshly initialised network; ``backbone`` is a name of `BACKBONES`."""
    return Segmenter(BACKBONES[backbone](), classes, heads)
