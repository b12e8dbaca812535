"""Bringing images and labels to a size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.sets import Fit, Size
from muhdi.taxonomy import IGNORE


def resize_image(
    image: npt.NDArray[np.uint8], size: Size, fit: Fit = "stretch"
) -> npt.NDArray[np.uint8]:
    """Bicubic, on uint8, as the reference; padding is black."""
    return _resize(image, size, fit, Image.Resampling.BICUBIC, 0)


def resize_label(
    label: npt.NDArray[np.uint8], size: Size, fit: Fit = "stretch"
) -> npt.NDArray[np.uint8]:
    """Nearest neighbour; padding is ignored."""
    return _resize(label, size, fit, Image.Resampling.NEAREST, IGNORE)


def _resize(
    pixels: npt.NDArray[np.uint8], size: Size, fit: Fit, method: Image.Resampling, fill: int
) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    inner = size
    if (
        fit == "pad"
    ):  # sides are truncated as the reference truncates them, so that arrays agree to the bit
        if width / height > size[0] / size[1]:
            inner = size[0], max(1, int(height * (size[0] / width)))
        else:
            inner = max(1, int(width * (size[1] / height))), size[1]
    if inner != (width, height):
        pixels = np.asarray(Image.fromarray(pixels).resize(inner, method))
    return pixels if inner == size else _pad(pixels, size, fill)


def _pad(pixels: npt.NDArray[np.uint8], size: Size, fill: int) -> npt.NDArray[np.uint8]:
    """``pixels`` in the upper left corner of an array of ``size``."""
    padded = np.full((size[1], size[0], *pixels.shape[2:]), fill, np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded


def pad_label(label: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """The label at its own scale, padded to the aspect ratio of ``size``.

    It then shows what a padded image shows.
    """
    height, width = label.shape
    ratio = size[0] / size[1]
    if ratio > width / height:
        return _pad(label, (max(width, int(ratio * height)), height), IGNORE)
    return _pad(label, (width, max(height, int(width / ratio))), IGNORE)
