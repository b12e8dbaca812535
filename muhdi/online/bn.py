"""Batch norms whose moments follow the images (Schneider et al. 2020; Nado et al. 2020).

With a share a of an image's own moments: mean = (1 - a) running + a own, and so for the variance.
``exponential`` keeps the result as the running moments of the next image. ``blend`` computes it
anew for each image, from the running moments of training, as Schneider et al. do. ``batch`` has a =
1, as Nado et al. do, and as the published baselines of Cityscapes -> ACDC do with batch norms in
training mode (qinenergy/cotta, issue 17). These two are statistics that every network can be used
with, ``blend`` and ``image``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.errors import RecipeError
from muhdi.models.image_norms import replace_norm
from muhdi.models.norms import what_follows
from muhdi.models.statistics import batch_norms, read_statistics
from muhdi.online.base import Online, OnlineContext
from muhdi.recipe.online import MomentsConfig

LARGE = 2**13
"""From so many pixels on, a map's moments are those of some of its rows."""
EVERY = 4


class Moments(Online):
    """Only the moments of batch norms adapt; no weight moves.

    What follows the stream (``exponential``) collects an image's variance as batch norms do while
    they train, the unbiased one. Of maps of `LARGE` pixels and more, every fourth row counts there.
    """

    config_class = MomentsConfig
    config: MomentsConfig

    def __init__(self, config: MomentsConfig, context: OnlineContext) -> None:
        super().__init__(config, context)
        network = context.network
        if not batch_norms(network):
            raise RecipeError(
                f"{config.shown_name}: the network has no batch norms whose moments could adapt;"
                " use a method that moves weights"
            )
        known = {"exponential": "running", "blend": "blend", "batch": "image"}
        self.statistics = known[config.moments]
        self.inference = context.inference(self.statistics)
        self.following = self.inference
        self.anchor: dict[str, Tensor] = {}
        if config.moments == "exponential":
            self.anchor = read_statistics(network)
            self.following = context.inference("running")
            for name, norm in batch_norms(self.following.network).items():
                replace_norm(self.following.network, name, _Following(norm, config.momentum))
        if context.statistics not in ("running", self.statistics):
            self.remark(
                "begins with the running statistics, where plain prediction uses"
                f" {context.statistics} statistics"
            )

    @torch.no_grad()
    def observe(self, images: Tensor) -> Tensor:
        return self.following(images)  # type: ignore[no-any-return]

    @torch.no_grad()
    def reset(self) -> None:
        buffers = dict(self.context.network.named_buffers())
        for name, value in self.anchor.items():
            buffers[name].copy_(value)

    def kept(self) -> Iterator[Tensor]:
        yield from self.anchor.values()


class _Following(nn.Module):
    """Stands in a batch norm's place, with its weights and running moments, which follow."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d, share: float) -> None:
        super().__init__()
        self.weight = norm.weight
        self.bias = norm.bias
        self.eps = norm.eps
        self.after = what_follows(norm)
        self.share = share
        # The network's own, so that it keeps what is learned.
        self.register_buffer("running_mean", norm.running_mean, persistent=False)
        self.register_buffer("running_var", norm.running_var, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.running_mean
        variance = self.running_var
        if x.numel() > x.shape[1]:  # a single value has no variance
            # PyTorch's own kernel, which is many times as fast as sums of its operations.
            torch.batch_norm_update_stats(_sampled(x), mean, variance, self.share)
        normalised = F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)
        return self.after(normalised)  # type: ignore[no-any-return]


def _sampled(x: Tensor) -> Tensor:
    """A map, or every `EVERY`-th row of a large one.

    Rows of large maps resemble their neighbours. With all of them, an image took 1.14 times as long
    as plain prediction by EfficientNet-Lite0, with some 1.09 times.
    """
    height, width = x.shape[-2:]
    if height * width < LARGE or height < EVERY:
        return x
    rows = x[:, :, EVERY // 2 :: EVERY]
    last = x.is_contiguous(memory_format=torch.channels_last)
    return rows.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
