"""Resizing and padding images and labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.sets import WHOLE, Fit, Size, Window
from muhdi.recipe.section import RGB
from muhdi.taxonomy import IGNORE

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a window, in pixels of the image."""


def resize_image(image: Pixels, size: Size, fit: Fit = "stretch") -> Pixels:
    """Bicubic, on uint8, as the reference does it; padding is black."""
    return _resize(image, size, fit, Image.Resampling.BICUBIC, 0)


def shown_window(given: Size, size: Size, fit: Fit) -> Window:
    """Which part of an image of width and height ``given`` an array of ``size`` shows.

    Where it is padded, the edges of the array lie beyond those of the image.
    """
    if fit != "pad":
        return WHOLE
    width, height = _fitted(given, size)
    return 0.0, 0.0, size[0] / width, size[1] / height


def resize_label(label: Pixels, size: Size, fit: Fit = "stretch") -> Pixels:
    """Nearest neighbour; padding is ignored."""
    return _resize(label, size, fit, Image.Resampling.NEAREST, IGNORE)


def pad_label(label: Pixels, size: Size) -> Pixels:
    """The label at its own scale, padded to the aspect ratio of ``size``.

    It then shows what a padded image shows.
    """
    height, width = label.shape
    return _pad(label, padded_size((width, height), size), IGNORE)


def padded_size(given: Size, size: Size) -> Size:
    """Width and height of an image at its own scale, padded to the aspect ratio of ``size``."""
    width, height = given
    ratio = size[0] / size[1]
    if ratio > width / height:
        return max(width, int(ratio * height)), height
    return width, max(height, int(width / ratio))


def _resize(pixels: Pixels, size: Size, fit: Fit, method: Image.Resampling, fill: int) -> Pixels:
    height, width = pixels.shape[:2]
    inner = size
    if fit == "pad":
        inner = _fitted((width, height), size)
    if inner != (width, height):
        pixels = resampled(pixels, inner, method)
    return pixels if inner == size else _pad(pixels, size, fill)


def resampled(
    pixels: Pixels, size: Size, method: Image.Resampling, box: Box | None = None
) -> Pixels:
    """An image [H, W] or [H, W, C] at another size, each channel by itself.

    Args:
        pixels: of any number of channels.
        size: width and height.
        method: of Pillow.
        box: the part that is taken; None: the whole.
    """
    if pixels.ndim == 2 or pixels.shape[2] == RGB:
        return np.asarray(Image.fromarray(pixels).resize(size, method, box=box))
    # One after another: Pillow knows no more than four, and takes the fourth for transparency.
    channels = [
        np.asarray(Image.fromarray(pixels[:, :, number]).resize(size, method, box=box))
        for number in range(pixels.shape[2])
    ]
    return np.stack(channels, 2)


def _fitted(given: Size, size: Size) -> Size:
    """The largest size in the aspect ratio of ``given`` that lies inside ``size``.

    Sides are truncated as the reference truncates them, so that arrays agree to the bit.
    """
    width, height = given
    if width / height > size[0] / size[1]:
        return size[0], max(1, int(height * (size[0] / width)))
    return max(1, int(width * (size[1] / height))), size[1]


def _pad(pixels: Pixels, size: Size, fill: int) -> Pixels:
    """``pixels`` in the upper left corner of an array of ``size``."""
    padded = np.full((size[1], size[0], *pixels.shape[2:]), fill, np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded
