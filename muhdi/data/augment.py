"""Random changes of training images and their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.resize import Box, resampled
from muhdi.data.sets import Sample, Size, Window
from muhdi.recipe.augment import AugmentConfig
from muhdi.recipe.section import RGB
from muhdi.taxonomy import IGNORE

Pixels = npt.NDArray[np.uint8]
Place = tuple[slice, slice]
"""Rows and columns of a window of whole pixels."""
Crop = Place | Box
REDRAWS = 10
"""How often a window that one class fills is drawn again."""


@dataclass(frozen=True)
class Wanted:
    """The class that an image was drawn for, which its crop should show too.

    Attributes:
        label: of the class.
        share: of the crop's pixels that it should exceed.
        tries: how often a crop that shows less is drawn again; the last one stays.
    """

    label: int
    share: float
    tries: int

    def is_in(self, label: Pixels) -> bool:
        """Whether a crop's label shows enough of it."""
        return int(np.count_nonzero(label == self.label)) > self.share * label.size


def augment(
    sample: Sample,
    config: AugmentConfig,
    rng: np.random.Generator,
    wanted: Wanted | None = None,
) -> Sample:
    """Random crop, mirroring and colour changes.

    The size stays, but for a crop in pixels: the sample has that size then.

    Args:
        sample: image and label of one size.
        config: which changes, and how strong.
        rng: decides everything, so that equal generators give equal samples. A change that is
            switched off draws nothing from it: the order below is part of what makes runs repeat.
        wanted: what a crop of a labelled image should show; None: any crop will do.
    """
    image = sample.image
    label = sample.label
    window = sample.window
    if config.crops:
        crop, label = _drawn_crop(sample, config, rng, wanted)
        window = _inside(window, _as_shares(crop, image))
        image = _cut(image, crop, Image.Resampling.BILINEAR)
    if config.flip and rng.random() < 0.5:
        image = image[:, ::-1]
        if label is not None:
            label = label[:, ::-1]
        left, upper, right, lower = window
        window = (right, upper, left, lower)
    if config.colour:
        image = _jittered_colours(image, config.colour, rng)
    return Sample(sample.name, image, label, sample.unlisted, window)


def _inside(whole: Window, part: Window) -> Window:
    """Where a part lies, given in shares of what shows ``whole``."""
    width = whole[2] - whole[0]
    height = whole[3] - whole[1]
    left, upper, right, lower = part
    return (
        whole[0] + width * left,
        whole[1] + height * upper,
        whole[0] + width * right,
        whole[1] + height * lower,
    )


def _as_shares(crop: Crop, image: Pixels) -> Window:
    """Where a crop lies in an image, whatever the image's size."""
    height, width = image.shape[:2]
    if len(crop) == 2:
        rows, columns = crop
        crop = (columns.start, rows.start, columns.stop, rows.stop)
    left, upper, right, lower = crop
    return left / width, upper / height, right / width, lower / height


def _drawn_crop(
    sample: Sample, config: AugmentConfig, rng: np.random.Generator, wanted: Wanted | None
) -> tuple[Crop, Pixels | None]:
    """A random crop, and what it leaves of the label."""
    crop = _crop_of(sample, config, rng)
    if sample.label is None:
        return crop, None
    label = _cut(sample.label, crop, Image.Resampling.NEAREST)
    if wanted is None:
        return crop, label
    for _ in range(wanted.tries):
        if wanted.is_in(label):
            break
        crop = _crop_of(sample, config, rng)
        label = _cut(sample.label, crop, Image.Resampling.NEAREST)
    return crop, label


def _crop_of(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Crop:
    """Where a random crop lies."""
    if isinstance(config.crop, tuple):
        return _place_in(sample, config.crop, config.largest_class, rng)
    height, width = sample.image.shape[:2]
    return _window(width, height, config.crop, rng)


def _cut(pixels: Pixels, crop: Crop, method: Image.Resampling) -> Pixels:
    """What lies in a crop: whole pixels as they are, a window at the size of the whole."""
    if len(crop) == 2:
        return pixels[crop]
    return _enlarged(pixels, crop, method)


def _place_in(sample: Sample, size: Size, largest_class: float, rng: np.random.Generator) -> Place:
    """A random place of a window of ``size``; every one is as likely.

    With a label it is drawn again where one class fills more than ``largest_class`` of the labelled
    pixels, or none is labelled, up to `REDRAWS` times; the last one stays (mmsegmentation's
    ``RandomCrop``).
    """
    height, width = sample.image.shape[:2]
    for _ in range(1 + REDRAWS):
        left = int(rng.integers(0, width - size[0], endpoint=True))
        upper = int(rng.integers(0, height - size[1], endpoint=True))
        place = slice(upper, upper + size[1]), slice(left, left + size[0])
        if sample.label is None or _largest_share(sample.label[place]) <= largest_class:
            break
    return place


def _largest_share(label: Pixels) -> float:
    """Share of the labelled pixels that the most frequent class fills; 1 where there are none."""
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)[:IGNORE]
    total = int(counts.sum())
    return int(counts.max()) / total if total else 1.0


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
    return resampled(pixels, size, method, box)


def _jittered_colours(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """`_jitter` of the colours; what is beside them, such as infrared, stays."""
    if image.shape[2] == RGB:
        return _jitter(image, strength, rng)
    colours = _jitter(image[:, :, :RGB], strength, rng)
    return np.concatenate([colours, image[:, :, RGB:]], 2)


def _jitter(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast and saturation, each times 1 +- ``strength``.

    Self-training changes its mixed images alike, but on tensors, a batch at a time, on the device
    and with the method's own generator: `muhdi.adaptation.strong`.
    """
    factors = 1 + strength * rng.uniform(-1, 1, 3)
    brightness, contrast, saturation = factors.astype(np.float32)
    # In place, and by channel: numpy is slow along an axis of three.
    pixels = image.astype(np.float32)
    pixels *= brightness
    mean = pixels.mean()
    pixels -= mean
    pixels *= contrast
    pixels += mean
    red, green, blue = (pixels[..., channel] for channel in range(3))
    grey = (red + green + blue) / np.float32(3)
    for channel in (red, green, blue):
        channel -= grey
        channel *= saturation
        channel += grey
    np.clip(pixels, 0, 255, out=pixels)
    return pixels.astype(np.uint8)
