"""What an image looks like, in a few numbers, and images in the look of others.

All functions take images [N, 3, H, W] in 0..255 and wait for no device.
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
        mean: [N, 3].
        covariance: [N, 3, 3].
    """

    mean: Tensor
    covariance: Tensor


def colour_of(images: Tensor) -> Colour:
    """Mean and covariance of each image's pixels."""
    pixels = images.float()
    mean = pixels.mean((-2, -1))
    centred = pixels - mean[:, :, None, None]
    products = centred[:, :, None] * centred[:, None]
    return Colour(mean, products.mean((-2, -1)))


def recoloured(images: Tensor, style: Colour) -> Tensor:
    """Images with the moments of other ones (Pitié & Kokaram 2007, the symmetric linear map).

    x' = C_t^½ C_s^-½ (x - m_s) + m_t, float32 [N, 3, H, W], cut to 0..255.
    """
    own = colour_of(images)
    root, _ = square_roots(style.covariance)
    _, inverse = square_roots(own.covariance)
    change = (root @ inverse).float()
    centred = images.float() - own.mean[:, :, None, None]
    # A product and a sum, not a matrix product: autocast would compute that in bf16.
    changed = (change[:, :, :, None, None] * centred[:, None]).sum(2)
    return (changed + style.mean[:, :, None, None]).clamp(0, 255)


def square_roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """C^½ and C^-½ of symmetric matrices [N, 3, 3], float64, once a little is added to C.

    The coupled iteration of Denman & Beavers in the form of Newton and Schulz (Higham 2008,
    eq. 6.35): nothing but products, so that nobody waits for a decomposition.
    """
    identity = torch.eye(3, dtype=torch.float64, device=covariance.device)
    matrix = covariance.double() + LEAST_VARIANCE * identity
    scale = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    root = matrix / scale
    inverse = identity.expand_as(root)
    for _ in range(ITERATIONS):
        step = (3 * identity - inverse @ root) / 2
        root = root @ step
        inverse = step @ inverse
    return root * scale.sqrt(), inverse / scale.sqrt()


def amplitude_of(images: Tensor, radius: int) -> Tensor:
    """Amplitudes of low frequencies, up to ``radius`` periods an image: [N, 3, 2 r + 1, 2 r + 1].

    They are divided by the number of pixels, so that they do not depend on it.
    """
    spectrum = torch.fft.fft2(images.float())
    shifted = torch.fft.fftshift(spectrum, dim=(-2, -1))
    rows, columns = _low(images, radius)
    height, width = images.shape[-2:]
    amplitude: Tensor = shifted[..., rows, columns].abs() / (height * width)
    return amplitude


def with_amplitude(images: Tensor, amplitude: Tensor) -> Tensor:
    """Images with other ones' low frequencies: their amplitudes, the images' own phases.

    FDA, Yang & Soatto 2020, eq. 3, 4. Float32 [N, 3, H, W], cut to 0..255.
    """
    radius = amplitude.shape[-1] // 2
    spectrum = torch.fft.fftshift(torch.fft.fft2(images.float()), dim=(-2, -1))
    rows, columns = _low(images, radius)
    height, width = images.shape[-2:]
    phase = spectrum[..., rows, columns].angle()
    spectrum[..., rows, columns] = torch.polar(amplitude * (height * width), phase)
    changed: Tensor = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
    return changed.clamp(0, 255)


def radius_of(images: Tensor, beta: float) -> int:
    """Half of the width of the square of low frequencies: ``beta`` of the shorter side."""
    return max(1, int(beta * min(images.shape[-2:])))


def _low(images: Tensor, radius: int) -> tuple[slice, slice]:
    """Rows and columns of the low frequencies in a shifted spectrum."""
    height, width = images.shape[-2:]
    row = height // 2
    column = width // 2
    rows = slice(row - radius, row + radius + 1)
    return rows, slice(column - radius, column + radius + 1)
