"""Images of more than three channels, and of more than 8 bits per channel.

Networks see uint8. What a file holds in 16 bits is brought to that by a linear scale, so of 12-bit
values the lowest four bits go: steps smaller than 1/255 of the range are not seen.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps

from muhdi.data.label_image import Scale, is_deep, keep_other_bytes, open_image
from muhdi.data.resize import resize_image
from muhdi.errors import DataError
from muhdi.recipe.section import RGB

Pixels = npt.NDArray[np.uint8]
Range = tuple[int, int]
_WHOLE: Range = (0, 2**16 - 1)
"""What 16 bits can hold."""
_AS_THEY_ARE = ("L", "RGB", "RGBA", "RGBX")
"""Modes of Pillow whose arrays are channels."""

_FOURTH_LAST = "RGBX"
"""Pillow's encoding of four bands in a TIFF file whose last one it leaves out."""
_FOURTH_FIRST = "XRGB"
"""The one whose first band it leaves out."""


@dataclass(frozen=True)
class Channels:
    """What an image's channels are.

    Attributes:
        count: channels of every image; the first three are red, green and blue.
        pixel_range: values that become 0 and 255 in files of more than 8 bits; None: their high
            byte is taken.
    """

    count: int = RGB
    pixel_range: Range | None = None

    @property
    def are_plain(self) -> bool:
        """Whether images are read as any viewer shows them."""
        return self == COLOURS

    @property
    def shape(self) -> str:
        """What messages call an array of them."""
        return f"uint8 {'RGB ' if self.count == RGB else ''}[H, W, {self.count}]"


COLOURS = Channels()
"""Of images as any viewer shows them."""


def scaled(values: npt.NDArray[Any], ends: Range) -> Pixels:
    """Values brought linearly to 0..255: ``ends`` to its ends, what lies beyond cut off.

    Rounded to the nearest, halves to the even number.
    """
    low, high = ends
    shares = (values.astype(np.float32) - low) * np.float32(255) / np.float32(high - low)
    whole: Pixels = np.rint(shares).clip(0, 255).astype(np.uint8)
    return whole


def upright(image: Image.Image) -> None:
    """Turn a decoded image the way up that viewers show it, in place."""
    # In place: an image is turned even if the rest of its EXIF data cannot be written back.
    with suppress(Exception):  # whatever the parser makes of arbitrary bytes
        ImageOps.exif_transpose(image, in_place=True)


def read_channels(path: Path, ends: Range | None) -> Pixels:
    """All channels of a file, uint8 [H, W, C]: 1 of grey, 3 of colour, 4 where it has a fourth.

    A palette's colours count as colours, and what is beside them is left out; so is the
    transparency of a grey image.

    Args:
        path: of the file.
        ends: values that become 0 and 255 where it has more than 8 bits; None: its high byte.

    Raises:
        DataError: the file is missing, or its channels cannot be read.
    """
    scale = Scale()
    deep: list[bool] = []
    hidden: list[bool] = []

    def look(image: ImageFile.ImageFile) -> None:
        scale.note(image)
        deep.append(is_deep(image))
        hidden.append(image.mode == "RGB" and _encodings(image) == {_FOURTH_LAST})

    image = open_image(path, look)
    upright(image)
    if image.mode.startswith("I"):
        # Pillow stretches the grey values of some formats to 16 bit.
        return _narrow(path, scale.undo(np.asarray(image)), ends)[:, :, None]
    if image.mode == "F":
        raise DataError(
            f"{path}: its pixels are not integers; save it with 8 or 16 bit per channel"
        )
    if deep[0]:
        low = open_image(path, keep_other_bytes)
        upright(low)
        values = np.asarray(image).astype(np.int32) * 256 + np.asarray(low)
        return _narrow(path, values, ends)
    if hidden[0]:
        last = open_image(path, _keep_last_three)
        upright(last)
        return np.concatenate([np.asarray(image), np.asarray(last)[:, :, 2:]], 2)
    if image.mode == "LA":
        image = image.getchannel("L")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in _AS_THEY_ARE:
        image = image.convert("RGB")
    pixels: Pixels = np.asarray(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _encodings(image: ImageFile.ImageFile) -> set[str]:
    """How the pixels of a file are encoded, before they are decoded."""
    arguments = [tile[3] for tile in image.tile]
    return {str(one[0] if isinstance(one, tuple) and one else one) for one in arguments}


def _keep_last_three(image: ImageFile.ImageFile) -> None:
    """Let the decoder keep the last three of four bands, not the first."""
    tiles: list[Any] = []
    for codec, extents, offset, arguments in image.tile:
        changed: Any = _FOURTH_FIRST
        if isinstance(arguments, tuple):
            changed = (_FOURTH_FIRST, *arguments[1:])
        tiles.append((codec, extents, offset, changed))
    image.tile = tiles


def as_colours(pixels: Pixels) -> Pixels:
    """The colours in the channels of a file, uint8 [H, W, 3]: grey three times, else the first."""
    if pixels.shape[2] == 1:
        return pixels.repeat(RGB, 2)
    return pixels[:, :, :RGB]


def joined(path: Path, own: Pixels, bands: list[tuple[Path, Pixels]], count: int) -> Pixels:
    """The channels of an image's own file, and those of further files, uint8 [H, W, ``count``].

    Of the own file come as many channels as are missing: its colours where that is three, else
    exactly what it holds. Further files of another size are resized to that of the own.

    Raises:
        DataError: there are more or fewer, or a further file has another aspect ratio.
    """
    further = sum(pixels.shape[2] for _, pixels in bands)
    missing = count - further
    if missing == RGB:
        own = as_colours(own)
    if missing < RGB or own.shape[2] != missing:
        has = f"has {own.shape[2]} channels"
        if bands:
            has += f" and its bands {further}"
        raise DataError(
            f"{path}: {has}, but {count} are wanted (channels: {count}); name files that have the"
            " others as bands, or give a file with all of them"
        )
    height, width = own.shape[:2]
    parts = [own]
    for file, pixels in bands:
        size = pixels.shape[1], pixels.shape[0]
        if is_other_shape(size, (width, height)):
            raise DataError(
                f"{file}: is {size[0]}x{size[1]}, its image {path} {width}x{height}; bands must"
                " show the same as their image, at any size but in one aspect ratio"
            )
        parts.append(resize_image(pixels, (width, height)))
    return np.concatenate(parts, 2)


def is_other_shape(size: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether two widths and heights differ in their aspect ratio by more than one percent."""
    difference = abs(size[0] * wanted[1] - size[1] * wanted[0])
    return difference > max(wanted) * max(size) * 0.01


def colours_of(pixels: Pixels) -> Pixels:
    """What a picture shows of an image [H, W, C]: its first three channels."""
    return pixels if pixels.shape[2] == RGB else np.ascontiguousarray(pixels[:, :, :RGB])


def _narrow(path: Path, values: npt.NDArray[Any], ends: Range | None) -> Pixels:
    """Values of up to 16 bit as uint8."""
    if values.size and (values.min() < _WHOLE[0] or values.max() > _WHOLE[1]):
        raise DataError(
            f"{path}: its pixels have more than 16 bit; save it with 8 or 16 bit per channel"
        )
    if ends is None:
        return (values >> 8).astype(np.uint8)
    return scaled(values, ends)
