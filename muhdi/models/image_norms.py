"""Batch norms that use each image's own mean and variance, alone or in part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muhdi.models.norms import what_follows


class _OfImages(nn.Module):
    """What stands in a batch norm's place, with its scale and shift, and what follows it."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight = norm.weight
        self.bias = norm.bias
        self.eps = norm.eps
        self.after = what_follows(norm)


class ImageNorm(_OfImages):
    """A batch norm that normalises every image with its own mean and variance.

    So a batch of images gives what they give one at a time.
    """

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        # As products with a row of ones, moments take a third of the time of a reduction on a CPU.
        average = pixels.new_full((1, 1, height * width), 1 / (height * width))
        centred = pixels - torch.matmul(average, pixels)
        variance = torch.matmul(average, centred.square())
        scale = (variance + self.eps).rsqrt() * self.weight
        normalised = torch.addcmul(self.bias, centred, scale)
        maps = normalised.view(count, height, width, channels).permute(0, 3, 1, 2)
        return self.after(maps)  # type: ignore[no-any-return]


class OfBatchNorm(_OfImages):
    """A batch norm that normalises with the moments of the batch, and remembers nothing.

    Of a single image it gives what `ImageNorm` gives; its gradient takes a third of the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        # Not `F.batch_norm`, which refuses maps of a single value.
        normalised = torch.batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, True
        )
        return self.after(normalised)  # type: ignore[no-any-return]


BLEND = 0.1
"""How much of an image's own moments ``blend`` takes."""


class BlendNorm(_OfImages):
    """A batch norm that moves the running moments a little towards those of every image.

    mean = (1 - a) running + a image's own, and so for the variance, with a = `BLEND`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm)
        # The network's own, so that they follow it.
        self.register_buffer("running_mean", norm.running_mean, persistent=False)
        self.register_buffer("running_var", norm.running_var, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # 16 bits are too few for sums over an image.
        own_mean, own_variance = _moments(x.to(torch.promote_types(x.dtype, torch.float32)))
        mean = (1 - BLEND) * self.running_mean + BLEND * own_mean
        variance = (1 - BLEND) * self.running_var + BLEND * own_variance
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        normalised = x * scale[:, :, None, None] + shift[:, :, None, None]
        return self.after(normalised.to(x.dtype))  # type: ignore[no-any-return]


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every channel of every image, [N, K] each."""
    if images.is_cuda:
        variance, mean = torch.var_mean(images, dim=(2, 3), correction=0)
        return mean, variance
    # On a CPU `var_mean` takes three to five times as long.
    mean = images.mean((2, 3))
    centred = images - mean[:, :, None, None]
    return mean, centred.square().mean((2, 3))


def replace_norm(network: nn.Module, name: str, new: nn.Module) -> None:
    """Have another module in the place of the batch norm of a name."""
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
