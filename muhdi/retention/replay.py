"""Replay: a few images of earlier targets are kept, with the network's own labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi import distributed
from muhdi.draws import HostDraws
from muhdi.losses import Losses
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.outputs import AGNOSTIC, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch, Pass, level_cross_entropy, without_zeros
from muhdi.recipe.retentions import ReplayConfig
from muhdi.retention.base import Retention
from muhdi.taxonomy import IGNORE
from muhdi.windows import inside


class Kept(NamedTuple):
    """Images of one earlier target.

    Attributes:
        images: uint8 [n, 3, H, W].
        labels: uint8 [n, H, W].
    """

    images: Tensor
    labels: Tensor


class ImageReplay(Retention):
    """L = w [CE(s_main(x), y) + w_aux CE(s_aux(x), y)] on kept images x of earlier targets.

    At the end of every step some of its images are kept, with the labels of which the network is
    sure then. In later steps as many of them as there are target images pass in every iteration,
    each domain as often as the others, cut to the size of the target's and mirrored at random. The
    head that answers learns from them, also where another one learns the target.
    """

    config_class = ReplayConfig
    config: ReplayConfig

    def __init__(self, config: ReplayConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.targets = context.targets
        self.draws = HostDraws(context.generator)
        self.memory: Memory = {}
        self.kept: list[Kept] = []

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.memory = dict(memory)
        device = next(network.parameters()).device
        domains = sorted({name.rpartition("/")[0] for name in memory})
        for domain in domains:
            images = memory[f"{domain}/images"].to(device)
            self.kept.append(Kept(images, memory[f"{domain}/labels"].to(device)))

    def passes(self, source: Batch | None, target: Batch) -> list[Pass]:
        if not self.kept:
            return []
        count = len(target.images) * distributed.world_size()
        # Every process draws for the images of all of them and takes its own.
        random = self.draws.next()
        draws = [[random.random() for _ in range(5)] for _ in range(count)]
        chosen = [self._one(numbers, target.size) for numbers in distributed.local_slice(draws)]
        images = torch.stack([image for image, _ in chosen])
        labels = torch.stack([label for _, label in chosen])
        return [Pass(Batch(images, labels.long()), self._learn)]

    def _one(self, numbers: list[float], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """An image [3, H, W] and its labels, by five random numbers."""
        domain, which, down, across, mirror = numbers
        kept = self.kept[int(domain * len(self.kept))]
        place = int(which * len(kept.images))
        image, label = at_least(kept.images[place], kept.labels[place], size)
        top = int(down * (label.shape[0] - size[0] + 1))
        left = int(across * (label.shape[1] - size[1] + 1))
        rows = slice(top, top + size[0])
        columns = slice(left, left + size[1])
        image = image[:, rows, columns]
        label = label[rows, columns]
        return (image.flip(-1), label.flip(-1)) if mirror < 0.5 else (image, label)

    def _learn(self, outputs: Outputs, batch: Batch) -> Losses:
        weights = {"aux": self.config.weight * self.config.aux, "main": self.config.weight}
        logits = outputs.upsampled(AGNOSTIC, batch.size)
        return level_cross_entropy("replay", logits, batch, without_zeros(weights))

    def end(self, network: Segmenter, batches: Batches) -> Memory:
        teacher = Teacher(network, "blend")
        images: list[list[Tensor]] = [[] for _ in self.targets]
        labels: list[list[Tensor]] = [[] for _ in self.targets]
        with distributed.fail_together():
            for batch in batches.target(self.config.images):
                confidence, label = teacher.probabilities(batch.images).max(1)
                counts = (confidence >= self.config.threshold) & (inside(batch) > 0)
                label = label.masked_fill(~counts, IGNORE)
                images[batch.target].append(batch.images[0].round().to(torch.uint8).cpu())
                labels[batch.target].append(label[0].to(torch.uint8).cpu())
        for name, own, their in zip(self.targets, images, labels, strict=True):
            whole = distributed.interleaved(own)
            labelled = distributed.interleaved(their)
            if whole:
                self.memory[f"{name}/images"] = torch.stack(whole)
                self.memory[f"{name}/labels"] = torch.stack(labelled)
        return self.memory


def at_least(image: Tensor, label: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image [3, H, W] and its labels [H, W], enlarged where a window of ``size`` has no room."""
    height, width = label.shape
    scale = max(size[0] / height, size[1] / width, 1.0)
    if scale == 1:
        return image, label
    larger = (max(size[0], round(scale * height)), max(size[1], round(scale * width)))
    enlarged = F.interpolate(image[None].float(), larger, mode="bilinear")[0]
    labels = F.interpolate(label[None, None].float(), larger, mode="nearest-exact")[0, 0]
    return enlarged.round().to(torch.uint8), labels.to(torch.uint8)
