"""Changes of images that the student alone sees: colours, blur, hidden patches.

Pure functions of images and of numbers that were drawn, on whatever device the images are. Images
are float RGB [N, 3, H, W] in 0..255; what is beside the colours comes as further channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi.draws import Draws
from muhdi.recipe.pseudo_labels import StrongColourConfig, WeakColourConfig
from muhdi.recipe.section import RGB

SMALLEST_BLUR = 0.15
LARGEST_BLUR = 1.15
"""Standard deviations of the blur, in pixels (DACS)."""
BLUR_RADIUS = 5
"""Pixels on either side that the blur reads; what lies beyond weighs less than 1e-4."""


def strongly_changed(images: Tensor, config: StrongColourConfig, draws: Draws) -> Tensor:
    """Images with other colours and blurred, as the section says (DACS, Tranheden et al. 2021).

    Args:
        images: [N, 3, H, W], uint8 or float in 0..255.
        config: what changes, and how strongly.
        draws: decides everything; what is switched off draws nothing.
    """
    # In 16 bits colours would lose their digits.
    with torch.autocast(images.device.type, enabled=False):
        return _changed(images.float(), config, draws)


def weakly_changed(images: Tensor, config: WeakColourConfig, draws: Draws) -> Tensor:
    """Images with slightly other colours, each on its own (VFM-UDA, Englert et al. 2024).

    Args:
        images: [N, 3, H, W], uint8 or float in 0..255.
        config: how much changes at most.
        draws: decides everything.
    """
    with torch.autocast(images.device.type, enabled=False):
        changed = images.float()
        applied = _applied(changed, config.probability, draws)
        strengths = (config.brightness, config.contrast, config.saturation)
        return _recoloured(changed, applied, strengths, config.hue, draws)


def _changed(changed: Tensor, config: StrongColourConfig, draws: Draws) -> Tensor:
    together = config.strong_per == "batch"
    if (config.colour_jitter or config.hue_jitter) and config.jitter_probability:
        applied = _applied(changed, config.jitter_probability, draws, together=together)
        strengths = (config.colour_jitter,) * 3
        changed = _recoloured(changed, applied, strengths, config.hue_jitter, draws)
    if config.blur_probability:
        applied = _applied(changed, config.blur_probability, draws, together=together)
        drawn = draws.uniform(changed, 1, together=config.blur_strength_per == "batch")
        deviations = SMALLEST_BLUR + (LARGEST_BLUR - SMALLEST_BLUR) * drawn
        changed = blur(changed, (applied * deviations)[:, 0])
    return changed


def _recoloured(
    images: Tensor,
    applied: Tensor,
    strengths: tuple[float, float, float],
    hue: float,
    draws: Draws,
) -> Tensor:
    """Images with other colours: 1 +- a strength times as bright, for example.

    Channels beside red, green and blue stay as they are.

    Args:
        images: float [N, 3, H, W].
        applied: [N, 1], 1 for images that change, 0 for the others.
        strengths: of brightness, contrast and saturation.
        hue: share of the colour circle; with 0 nothing is drawn for it.
        draws: decides how much each image changes.
    """
    drawn = _signed(draws.uniform(images, 3))
    # Numbers of the host one by one: a tensor of them would have to be sent to the device.
    factors = [
        1 + strength * applied[:, 0] * drawn[:, number] for number, strength in enumerate(strengths)
    ]
    changed = jitter(images[:, :RGB], torch.stack(factors, 1))
    if hue:
        turns = hue * applied * _signed(draws.uniform(images, 1))
        changed = turn_hues(changed, turns[:, 0])
    if images.shape[1] == RGB:
        return changed
    return torch.cat([changed, images[:, RGB:]], 1)


def _applied(images: Tensor, probability: float, draws: Draws, *, together: bool = False) -> Tensor:
    """1 for images that change, 0 for the others, [N, 1]; ``together``: all or none."""
    if probability == 1:
        return images.new_ones(len(images), 1)
    return (draws.uniform(images, 1, together=together) < probability).to(images.dtype)


def _signed(uniform: Tensor) -> Tensor:
    """Numbers of 0..1 brought to -1..1."""
    return 2 * uniform - 1


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast and saturation of each image times its factors [N, 3], in this order."""
    brightness, contrast, saturation = factors.T[:, :, None, None, None]
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(1, keepdim=True)
    jittered: Tensor = (grey + (images - grey) * saturation).clamp(0, 255)
    return jittered


def turn_hues(images: Tensor, turns: Tensor) -> Tensor:
    """Every hue turned by ``turns`` [N] of the colour circle; value and saturation (HSV) stay."""
    value = images.amax(1)
    chroma = value - images.amin(1)
    red, green, blue = images.unbind(1)
    # The hue in sixths of the circle, from the channel that is largest; grey has chroma 0.
    divisor = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * turns[:, None, None]
    channels = []
    for offset in (5, 3, 1):
        place = (offset + hue) % 6
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, 1)


def blur(images: Tensor, deviations: Tensor) -> Tensor:
    """Each image convolved with a Gaussian of its standard deviation [N], in pixels; 0: as it is.

    Beyond its edges the image continues with their colours.
    """
    count, channels, height, width = images.shape
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    exponents = offsets.square() / (2 * deviations[:, None].clamp(min=1e-3).square())
    weights = (-exponents).exp()
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)
    kernels = weights.repeat_interleave(channels, 0)
    # One group a channel: each image has a kernel of its own.
    maps = images.reshape(1, count * channels, height, width)
    radius = BLUR_RADIUS
    maps = F.pad(maps, (radius, radius, 0, 0), mode="replicate")
    maps = F.conv2d(maps, kernels[:, None, None, :], groups=count * channels)
    maps = F.pad(maps, (0, 0, radius, radius), mode="replicate")
    maps = F.conv2d(maps, kernels[:, None, :, None], groups=count * channels)
    return maps.view(count, channels, height, width)


def hide_patches(images: Tensor, hidden: Tensor, fill: Tensor) -> Tensor:
    """Images whose patches show one colour where they are hidden (MIC, Hoyer et al. 2023, eq. 5).

    Args:
        images: [N, C, H, W].
        hidden: bool [N, rows, columns], enlarged to the images by nearest neighbours.
        fill: the value of each channel, [C].
    """
    mask = F.interpolate(hidden[:, None].to(images.dtype), images.shape[-2:]) > 0.5
    return torch.where(mask, fill[:, None, None], images)


def patch_grid(size: tuple[int, int], block: int) -> tuple[int, int]:
    """Rows and columns of patches of about ``block`` x ``block`` pixels; at least one of each."""
    height, width = size
    return max(1, round(height / block)), max(1, round(width / block))
