"""A package of somebody else's: one class of each kind. Tests copy it to a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from muhdi import Adaptation, Backbone, Batch, FeatureInfo, ImageSet, Pass, Retention, Sample
from muhdi.losses import Losses, cross_entropy
from muhdi.models.backbones.base import Normalise
from muhdi.models.teacher import Teacher
from muhdi.recipe.backbones import BackboneConfig
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.methods import AdaptationConfig
from muhdi.recipe.retentions import RetentionConfig
from muhdi.recipe.section import Fraction, Positive, Weight


class MaskedTeacherConfig(AdaptationConfig):
    """Options of `MaskedTeacher`."""

    method: Literal["masked_teacher"] = "masked_teacher"
    """The method's name."""
    ratio: Fraction = 0.5
    """Share of the blocks that are blacked out."""
    momentum: Fraction = 0.9
    """Of the teacher."""


class MaskedTeacher(Adaptation):
    """A mean teacher labels the target; the student learns from masked images, in a second pass."""

    config_class = MaskedTeacherConfig

    def __init__(self, config, context) -> None:
        super().__init__(config, context)
        self.generator = context.generator

    def begin(self, network, memory, batches) -> None:
        self.teacher = Teacher(network, head=self.head)

    def passes(self, source: Batch, target: Batch) -> Sequence[Pass]:
        pseudo = self.teacher(target.images).upsampled(self.head, target.size).main.argmax(1)
        height, width = target.size
        blocks = torch.rand(len(pseudo), 1, height // 8, width // 8, generator=self.generator)
        kept = (blocks >= self.config.ratio).repeat_interleave(8, 2).repeat_interleave(8, 3)
        return [Pass(Batch(target.images * kept, pseudo), self.masked_loss)]

    def masked_loss(self, outputs, batch: Batch) -> Losses:
        main = outputs.upsampled(self.head, batch.size).main
        return {"masked": cross_entropy(main, batch.labels, pixels=batch.pixels)}

    def after_step(self, network) -> None:
        self.teacher.follow(network, self.config.momentum)


class AnchorsConfig(RetentionConfig):
    """Options of `Anchors`."""

    method: Literal["anchors"] = "anchors"
    """The method's name."""
    weight: Weight = 0.01
    """Factor of the distance."""


class Anchors(Retention):
    """Holds the last layer near the mean of what it was at the ends of all earlier steps."""

    config_class = AnchorsConfig

    def begin(self, network, memory, batches) -> None:
        bias = self._bias(network).detach()
        self.register_buffer("count", memory.get("count", torch.ones(())).clone())
        self.register_buffer("mean", memory.get("mean", bias).clone())

    def penalty(self, network) -> Losses:
        return {"anchor": self.config.weight * (self._bias(network) - self.mean).square().sum()}

    def end(self, network, batches) -> dict[str, Tensor]:
        count = self.count + 1
        mean = self.mean + (self._bias(network).detach() - self.mean) / count
        return {"count": count, "mean": mean}

    @staticmethod
    def _bias(network) -> Tensor:
        return network.heads["agnostic"].main.bias()


class PlainNetConfig(BackboneConfig):
    """Options of `PlainNet`."""

    name: Literal["plain_net"] = "plain_net"
    """The backbone's name."""
    width: Positive = 8
    """Channels of every feature map."""


class PlainNet(Backbone):
    """Two convolutions and layer norms; no batch norm at all."""

    config_class = PlainNetConfig
    dilations = (1, 2)
    multiple = 4
    family = "pyramid"

    def __init__(self, config: PlainNetConfig) -> None:
        super().__init__()
        self.features = [FeatureInfo(config.width, 2), FeatureInfo(config.width, 4)]
        self.normalise = Normalise((127.5,) * 3, (64.0,) * 3)
        self.first = nn.Conv2d(3, config.width, 3, 2, 1)
        self.second = nn.Conv2d(config.width, config.width, 3, 2, 1)
        self.norm = nn.GroupNorm(1, config.width)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        fine = self.norm(self.first(self.normalise(images))).relu()
        return fine, self.second(fine).relu()


class StripesConfig(DomainConfig):
    """Options of `Stripes`."""

    dataset: Literal["stripes"] = "stripes"
    """The data set's name."""
    count: Positive = 4
    """Images per split."""
    shade: Fraction = 0.0
    """How dark the domain is."""


class Stripes(ImageSet):
    """Drawn stripes of two classes, with labels."""

    config_class: ClassVar = StripesConfig
    labelled = True

    def __init__(self, config: StripesConfig, split: str, context, labels: bool) -> None:
        self.domain = config.domain_name
        self.config = config
        self.offset = 0 if split == "train" else 100
        self.labelled = labels

    def __len__(self) -> int:
        return self.config.count

    def name(self, index: int) -> str:
        return f"{self.domain} {index + self.offset}"

    def fingerprint(self) -> str:
        return f"stripes {self.config}"

    def read(self, index: int, with_label: bool, draft=None) -> Sample:
        columns = np.indices((32, 48))[1]
        label = ((columns + index + self.offset) // (index + 3) % 2).astype(np.uint8)
        image = np.repeat((200 * label[:, :, None] * (1 - self.config.shade)), 3, 2)
        return Sample(self.name(index), image.astype(np.uint8), label if with_label else None)


def unused() -> Iterator[None]:
    """Nothing that a recipe could name."""
    yield None
