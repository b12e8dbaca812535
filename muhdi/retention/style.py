"""Replay without images: the source is seen in the styles of earlier targets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.draws import Draws
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch
from muhdi.recipe.retentions import StyleConfig
from muhdi.retention.base import Retention
from muhdi.retention.styles import (
    Colour,
    amplitude_of,
    colour_of,
    lowest,
    radius_of,
    recoloured,
    with_amplitude,
)
from muhdi.windows import inside

MOST_BYTES = 65536
"""That the styles of a domain take."""


class StyleReplay(Retention):
    """Source images in the styles of all targets so far, with the labels that they have.

    Of every target a few numbers per image are kept: mean and covariance of its colours (where
    GTTA, Marsden et al. 2022, keeps means and deviations of features, by class), or the amplitudes
    of its low frequencies (FDA, Yang & Soatto 2020). In later steps a source image is painted, with
    a given probability, in the style of an image of a target, drawn from those that are kept and
    the current one, each as often as the others: a target that comes back counts twice. No image is
    kept. Padding has no colour, and stays.
    """

    config_class = StyleConfig
    config: StyleConfig
    first: Tensor
    count: Tensor
    styles: Tensor

    def __init__(self, config: StyleConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.targets = context.targets
        # Of the iteration, as far as its targets were met.
        self._seen: list[Tensor] = []
        self.draws = Draws(context.generator)
        self.painter: Painter = _Recolouring()
        if config.of == "fourier":
            self.painter = _Amplitudes(config.beta, config.images)
        self.memory: Memory = {}

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.memory = dict(memory)
        own = [name for name in sorted(memory) if name.startswith(self._prefix)]
        by_domain = self.painter.known([memory[name] for name in own])
        counts = torch.tensor([len(styles) for styles in by_domain], dtype=torch.int64)
        # Not saved here: they are made again from the memory, which is.
        self.register_buffer("count", counts, persistent=False)
        self.register_buffer("first", counts.cumsum(0) - counts, persistent=False)
        styles = torch.cat(by_domain) if by_domain else torch.empty(0)
        self.register_buffer("styles", styles, persistent=False)

    def source_batch(self, source: Batch, target: Batch) -> Batch:
        images = source.images
        if self.config.current:
            if not target.target:
                self._seen = []
            self._seen.append(self._current(images, target))
        if target.target < len(self.targets) - 1:
            return source  # it is painted once, when all targets are known
        earlier = len(self.count)
        domains = earlier + len(self._seen)
        if not domains:
            return source
        changes, domain, which = self.draws.uniform(images, 3).unbind(1)
        domain = (domain * domains).long()
        styles: Tensor | None = None
        for number, current in enumerate(self.painter.alike(self._seen)):
            known_yet = domain < earlier + number
            styles = current if styles is None else _where(known_yet, styles, current)
        if earlier:
            known = domain.clamp(max=earlier - 1)
            place = self.first[known] + (which * self.count[known]).long()
            kept = self.styles[place]
            styles = kept if styles is None else _where(domain < earlier, kept, styles)
        assert styles is not None
        painted = self.painter.paint(source, styles)
        changed = _where(changes < self.config.probability, painted, images.float())
        return replace(source, images=changed)

    def _current(self, images: Tensor, target: Batch) -> Tensor:
        """Of the target image at the same place in its batch, for each source image."""
        places = torch.arange(len(images), device=images.device)
        styles = self.painter.measure(target)
        return styles[places * len(target.images) // len(images)]

    def end(self, network: Segmenter, batches: Batches) -> Memory:
        measured: list[list[Tensor]] = [[] for _ in self.targets]
        with distributed.fail_together():
            for batch in batches.target(self.config.images):
                measured[batch.target].append(self.painter.measure(batch)[0].cpu())
        for name, own in zip(self.targets, measured, strict=True):
            styles = distributed.interleaved(own)
            if styles:
                self.memory[self._prefix + name] = torch.stack(styles)
        return self.memory

    @property
    def _prefix(self) -> str:
        """What names in the memory begin with: styles of another kind stay as they are."""
        return f"{self.config.of}/"


class Painter(ABC):
    """A kind of style: a tensor per image."""

    @abstractmethod
    def measure(self, batch: Batch) -> Tensor:
        """The styles of N images, [N, ...]."""

    @abstractmethod
    def paint(self, batch: Batch, styles: Tensor) -> Tensor:
        """N images in other styles, float32 [N, 3, H, W]."""

    def alike(self, styles: list[Tensor]) -> list[Tensor]:
        """Styles of several domains, brought to one form."""
        return styles

    def known(self, styles: list[Tensor]) -> list[Tensor]:
        """The same; what is measured from now on has their form, too."""
        return self.alike(styles)


class _Recolouring(Painter):
    """Mean and covariance of the C channels: [N, C + C * C]."""

    def measure(self, batch: Batch) -> Tensor:
        mean, covariance = colour_of(batch.images, inside(batch))
        return torch.cat([mean, covariance.flatten(1)], 1)

    def paint(self, batch: Batch, styles: Tensor) -> Tensor:
        count = batch.images.shape[1]
        style = Colour(styles[:, :count], styles[:, count:].view(-1, count, count))
        return recoloured(batch.images, style, inside(batch))


class _Amplitudes(Painter):
    """Amplitudes of low frequencies: [N, C, 2 r + 1, 2 r + 1].

    Args:
        beta: r, relative to the images' shorter side.
        images: of a domain, whose styles shall not take more than `MOST_BYTES`.
    """

    def __init__(self, beta: float, images: int) -> None:
        self.beta = beta
        self.images = images
        self.radius: int | None = None

    def measure(self, batch: Batch) -> Tensor:
        radius = self.radius
        if radius is None:
            floats = MOST_BYTES // (4 * batch.images.shape[1] * self.images)
            largest = max(1, (math.isqrt(floats) - 1) // 2)
            radius = min(radius_of(batch.images, self.beta), largest)
        return amplitude_of(batch.images, radius, inside(batch))

    def paint(self, batch: Batch, styles: Tensor) -> Tensor:
        return with_amplitude(batch.images, styles, inside(batch))

    def alike(self, styles: list[Tensor]) -> list[Tensor]:
        """Domains may have images of different sizes: the lowest frequencies that all have."""
        radius = min((one.shape[-1] // 2 for one in styles), default=0)
        return [lowest(one, radius) for one in styles]

    def known(self, styles: list[Tensor]) -> list[Tensor]:
        alike = self.alike(styles)
        if alike:
            self.radius = alike[0].shape[-1] // 2
        return alike


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """For each image the one or the other."""
    return torch.where(chosen.view(-1, *(1,) * (one.dim() - 1)), one, other)
