"""What an image looks like, in a few numbers, and images in the look of others.

All functions take images [N, C, H, W] in 0..255 and wait for no device; C is 3, or more with
channels beside the colours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ITERATIONS = 20
"""Of the square root: enough for covariances whose eigenvalues differ ten-thousandfold."""
LEAST_VARIANCE = 1.0
"""Added to each covariance, in squared steps of 255: an image of one colour has none."""


class Colour(NamedTuple):
    """First and second moments of the colours of N images.

    Attributes:
        mean: [N, C].
        covariance: [N, C, C].
    """

    mean: Tensor
    covariance: Tensor


def colour_of(images: Tensor, seen: Tensor | None = None) -> Colour:
    """Mean and covariance of each image's pixels.

    Args:
        images: see above.
        seen: [N, H, W], 1 for pixels that count and 0 for padding; None: all count.
    """
    pixels = images.float().flatten(2)
    weights = torch.ones_like(pixels[:, :1]) if seen is None else seen.float().flatten(1)[:, None]
    total = weights.sum(-1).clamp(min=1)
    mean = _mean(pixels, weights)
    centred = pixels - mean[:, :, None]
    with _exact(images):
        covariance = (centred * weights) @ centred.transpose(1, 2) / total[:, :, None]
    return Colour(mean, covariance)


def _mean(pixels: Tensor, weights: Tensor) -> Tensor:
    """Of pixels [N, C, P] that count by weights [N, 1, P]: [N, C]."""
    return (pixels * weights).sum(-1) / weights.sum(-1).clamp(min=1)


def recoloured(images: Tensor, style: Colour, seen: Tensor | None = None) -> Tensor:
    """Images with the moments of other ones, by a linear map of square roots.

    x' = C_t^½ C_s^-½ (x - m_s) + m_t, float32 [N, C, H, W], cut to 0..255 (the second of the maps
    that Pitié & Kokaram 2007 compare). Padding stays as it is.

    Args:
        images: see above.
        style: of other images, as many.
        seen: as in `colour_of`.
    """
    own = colour_of(images, seen)
    root, _ = square_roots(style.covariance)
    _, inverse = square_roots(own.covariance)
    change = (root @ inverse).float()
    pixels = images.float()
    centred = pixels.flatten(2) - own.mean[:, :, None]
    with _exact(images):
        changed = change @ centred + style.mean[:, :, None]
    painted = changed.view_as(pixels).clamp(0, 255)
    return painted if seen is None else torch.where(seen[:, None] > 0, painted, pixels)


def _exact(images: Tensor) -> torch.autocast:
    """Autocast would compute these products in 16 bits, which are too few for colours."""
    return torch.autocast(images.device.type, enabled=False)


def square_roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """C^½ and C^-½ of symmetric matrices [N, C, C], float64, once a little is added to C.

    The coupled iteration of Denman & Beavers in the form of Newton and Schulz (Higham 2008,
    eq. 6.35): nothing but products, so that nobody waits for a decomposition.
    """
    channels = covariance.shape[-1]
    identity = torch.eye(channels, dtype=torch.float64, device=covariance.device)
    matrix = covariance.double() + LEAST_VARIANCE * identity
    scale = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    root = matrix / scale
    inverse = identity.expand_as(root)
    for _ in range(ITERATIONS):
        step = (3 * identity - inverse @ root) / 2
        root = root @ step
        inverse = step @ inverse
    return root * scale.sqrt(), inverse / scale.sqrt()


def amplitude_of(images: Tensor, radius: int, seen: Tensor | None = None) -> Tensor:
    """Amplitudes of low frequencies, up to r periods an image: [N, C, 2 r + 1, 2 r + 1].

    They are divided by the number of pixels, so that they do not depend on it. r is ``radius``, or
    what the images' shorter side allows. Padding counts as the image's mean colour.

    Args:
        images: see above.
        radius: see above.
        seen: as in `colour_of`.
    """
    shifted = torch.fft.fftshift(torch.fft.fft2(_filled(images, seen)), dim=(-2, -1))
    rows, columns = _low(images, _possible(images, radius))
    height, width = images.shape[-2:]
    amplitude: Tensor = shifted[..., rows, columns].abs() / (height * width)
    return amplitude


def with_amplitude(images: Tensor, amplitude: Tensor, seen: Tensor | None = None) -> Tensor:
    """Images with other ones' low frequencies: their amplitudes, the images' own phases.

    FDA, Yang & Soatto 2020, eq. 3, 4. Float32 [N, C, H, W], cut to 0..255. Of images that are too
    small for all of them, fewer frequencies change. Padding stays as it is.

    Args:
        images: see above.
        amplitude: of other images, as many, see `amplitude_of`.
        seen: as in `colour_of`.
    """
    radius = _possible(images, amplitude.shape[-1] // 2)
    spectrum = torch.fft.fftshift(torch.fft.fft2(_filled(images, seen)), dim=(-2, -1))
    rows, columns = _low(images, radius)
    height, width = images.shape[-2:]
    phase = spectrum[..., rows, columns].angle()
    taken = lowest(amplitude, radius) * (height * width)
    spectrum[..., rows, columns] = torch.polar(taken, phase)
    changed: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
    painted = changed.clamp(0, 255)
    return painted if seen is None else torch.where(seen[:, None] > 0, painted, images.float())


def _filled(images: Tensor, seen: Tensor | None) -> Tensor:
    """Images whose padding has their mean colour, which adds no frequency of its own."""
    pixels = images.float()
    if seen is None:
        return pixels
    mean = _mean(pixels.flatten(2), seen.float().flatten(1)[:, None])
    return torch.where(seen[:, None] > 0, pixels, mean[:, :, None, None])


def radius_of(images: Tensor, beta: float) -> int:
    """Half of the width of the square of low frequencies: ``beta`` of the shorter side."""
    return max(1, int(beta * min(images.shape[-2:])))


def lowest(amplitude: Tensor, radius: int) -> Tensor:
    """The middle of amplitudes [..., 2 R + 1, 2 R + 1]: [..., 2 r + 1, 2 r + 1], with r <= R."""
    edge = amplitude.shape[-1] // 2 - radius
    end = edge + 2 * radius + 1
    return amplitude[..., edge:end, edge:end]


def _possible(images: Tensor, radius: int) -> int:
    return min(radius, (min(images.shape[-2:]) - 1) // 2)


def _low(images: Tensor, radius: int) -> tuple[slice, slice]:
    """Rows and columns of the low frequencies in a shifted spectrum."""
    height, width = images.shape[-2:]
    row = height // 2
    column = width // 2
    rows = slice(row - radius, row + radius + 1)
    return rows, slice(column - radius, column + radius + 1)
