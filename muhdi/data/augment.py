"""Random changes of training images and their labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.sets import Sample
from muhdi.recipe.domains import AugmentConfig

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge of a window, in pixels of the image."""


def augment(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Random crop, mirroring and colour changes; the size stays.

    Args:
        sample: image and label of one size.
        config: which changes, and how strong.
        rng: decides everything, so that equal generators give equal samples. A change that is
            switched off draws nothing from it: the order below is part of what makes runs repeat.
    """
    image = sample.image
    label = sample.label
    if config.crop < 1:
        box = _window(image.shape[1], image.shape[0], config.crop, rng)
        image = _enlarged(image, box, Image.Resampling.BILINEAR)
        if label is not None:
            label = _enlarged(label, box, Image.Resampling.NEAREST)
    if config.flip and rng.random() < 0.5:
        image = image[:, ::-1]
        if label is not None:
            label = label[:, ::-1]
    if config.colour:
        image = _jitter(image, config.colour, rng)
    return Sample(sample.name, image, label, sample.unlisted)


def _window(width: int, height: int, smallest: float, rng: np.random.Generator) -> Box:
    """A window of the image's aspect ratio; its sides are at least ``smallest`` of the image's."""
    part = rng.uniform(smallest, 1.0)
    inner_width = part * width
    inner_height = part * height
    left = rng.uniform(0, width - inner_width)
    upper = rng.uniform(0, height - inner_height)
    return left, upper, left + inner_width, upper + inner_height


def _enlarged(pixels: Pixels, box: Box, method: Image.Resampling) -> Pixels:
    """What lies in the window, at the size of the whole."""
    size = pixels.shape[1], pixels.shape[0]
    return np.asarray(Image.fromarray(pixels).resize(size, method, box=box))


def _jitter(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, each times 1 +- ``strength``.

    Self-training changes its mixed images alike, but on tensors, a batch at a time, on the device
    and with the method's own generator: `muhdi.adaptation.selftrain`.
    """
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    pixels = image.astype(np.float32) * np.float32(brightness)
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * np.float32(contrast)
    grey = pixels.mean(2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(saturation)
    changed: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return changed
