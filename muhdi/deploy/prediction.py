"""What a network makes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.channels import COLOURS, Channels, colours_of
from muhdi.data.files import read_image, rgb_pixels
from muhdi.errors import DataError
from muhdi.taxonomy import ClassSet

Pixels = npt.NDArray[np.uint8]
_NO_IMAGE = "an image must be a file, a PIL image, or an array of {}"
_PAGE_HEIGHT = 320

AnyImage = Path | str | Image.Image | Pixels | Sequence[Path | str]
"""What `as_pixels` takes."""


@dataclass(frozen=True)
class Prediction:
    """What a network makes of one image.

    Attributes:
        image: uint8 RGB [H, W, 3]; with more channels where the network takes them.
        ids: position of the most likely class in ``classes``, uint8 [H, W].
        classes: names and colours.
        probabilities: float32 [C, H, W], sums to 1 over the classes; None unless they were asked
            for.
    """

    image: Pixels
    ids: Pixels
    classes: ClassSet
    probabilities: npt.NDArray[np.float32] | None = None

    def colour(self) -> Image.Image:
        """The classes in their colours: a palette image, whose pixels still hold the ids."""
        return self.classes.palette_image(self.ids)

    def overlay(self, opacity: float = 0.5) -> Image.Image:
        """The colours laid over the image."""
        return Image.blend(self._photograph(), self.colour().convert("RGB"), opacity)

    def _photograph(self) -> Image.Image:
        """What a picture shows of the image."""
        return Image.fromarray(colours_of(self.image))

    def beside(self) -> Image.Image:
        """The image and its overlay, side by side, at a size for a page."""
        height, width = self.image.shape[:2]
        shown = min(_PAGE_HEIGHT, height)
        size = (max(1, round(width * shown / height)), shown)
        halves = [half.resize(size) for half in (self._photograph(), self.overlay())]
        return Image.fromarray(np.concatenate([np.asarray(half) for half in halves], 1))


def as_pixels(image: AnyImage, channels: Channels = COLOURS) -> Pixels:
    """An image as uint8 RGB [H, W, 3], or with as many channels as are wanted.

    Args:
        image: a file, or a sequence of files whose channels come one after another; a PIL image;
            or an array.
        channels: that it has.

    Raises:
        DataError: a file cannot be read, an array is of another kind, or it has no pixels.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image), None, channels)
    if isinstance(image, (list, tuple)) and image:
        first, *bands = map(Path, image)
        return read_image(first, None, channels, bands)
    pixels: Any
    if isinstance(image, Image.Image):
        pixels = rgb_pixels(image.copy(), getattr(image, "filename", "") or "the image")
    else:
        pixels = image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise DataError(_NO_IMAGE.format(channels.shape))
    if pixels.ndim != 3 or pixels.shape[2] != channels.count:
        raise DataError(_NO_IMAGE.format(channels.shape))
    if not pixels.size:
        raise DataError(f"an image of shape {pixels.shape} has no pixels")
    found: Pixels = pixels
    return found
