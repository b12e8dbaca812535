"""Reading label images exactly: what a file holds is a number or a colour for every pixel.

`muhdi new`, `check`, training and evaluation all read labels here. Pillow changes what some files
hold: grey images of 2 or 4 bits, and PGM files of fewer than 256 grey levels, are stretched to 0 to
255. That is undone here. A file whose format may have changed its numbers is refused.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from muhdi.errors import DataError
from muhdi.taxonomy import RAW_IDS

# At half the limit Pillow warns of the size, for the eyes of developers. Set when this module is
# imported, since processes that load images may start without the settings of this one.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}
"""Pillow's names of formats that (may) change pixels, and what messages call them."""
_STRETCHED = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies values by, by the encoding in the file."""
_ONE_NUMBER = ("L", "LA", "P", "PA", "1", "I", "I;16", "I;16L", "I;16B")
_OTHER_BYTE = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}
"""How encodings of 16 bit end, and those of the other order of bytes."""
_RARE = 0.01
"""A value that covers less of a lossy label than this is taken for a trace of the compression."""

Prepare = Callable[[ImageFile.ImageFile], None]


def open_image(path: Path, prepare: Prepare | None = None) -> Image.Image:
    """A decoded image.

    Args:
        path: of the file.
        prepare: called before the pixels are decoded.

    Raises:
        DataError: the file is missing, or is not an image that can be read.
    """
    try:
        # Opened here, not by Pillow: given a path it maps TIFF files into memory, and scrambles the
        # pixels of those whose orientation exchanges width and height (seen in 13.0).
        with path.open("rb") as file:
            return decode_image(file, str(path), prepare)
    except FileNotFoundError:
        raise DataError(f"{path}: the file is missing") from None
    except (OSError, ValueError) as error:  # names that the system refuses
        raise DataError(f"{path}: the image cannot be read: {error}") from None


def decode_image(file: BinaryIO, name: str, prepare: Prepare | None = None) -> Image.Image:
    """A decoded image from an open file, or from bytes.

    Args:
        file: where the image begins.
        name: of it, for messages.
        prepare: called before the pixels are decoded.

    Raises:
        DataError: it is not an image that can be read.
    """
    try:
        image = Image.open(file)
        if prepare is not None:
            prepare(image)
        image.load()
    except Image.DecompressionBombError:
        raise DataError(
            f"{name}: has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels;"
            " cut it into tiles or save it at a smaller size (in Python, PIL.Image.MAX_IMAGE_PIXELS"
            " sets the limit)"
        ) from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image") from None
    except DataError:
        raise
    except Exception as error:  # whatever the decoders make of arbitrary bytes
        raise DataError(f"{name}: the image cannot be read: {error}") from None
    return image


def read_ids(path: Path, *, first_channel: bool = False) -> npt.NDArray[np.int64]:
    """The ids of a label image, [H, W].

    An RGB image whose three channels are equal is grey.

    Args:
        path: of the file.
        first_channel: of an RGB image, of 8 or 16 bit, the first channel holds the ids.

    Raises:
        DataError: the file is not a label image, or is of a format that changes numbers.
    """
    image, scale = _opened(path, first_channel=first_channel)
    return _ids(path, image, scale, first_channel=first_channel)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Which pixels a mask covers, [H, W]: those that are not 0.

    Raises:
        DataError: the file is not a mask, is of a format that changes numbers, or says by its
            transparency what it covers.
    """
    image, scale = _opened(path)
    if image.mode in ("LA", "PA", "RGBA"):
        alpha = np.asarray(image.getchannel("A"))
        if (alpha != alpha.flat[0]).any():
            raise DataError(
                f"{path}: a mask must be black where it covers nothing, but this one is"
                " transparent there; save it without an alpha channel, on black"
            )
    if _has_colours(image):
        raise DataError(f"{path}: a mask must be black and white, but this file has colours")
    covered: npt.NDArray[np.bool_] = _ids(path, image, scale) != 0
    return covered


def read_colours(path: Path) -> npt.NDArray[np.int32]:
    """The colours of a label image as 24-bit numbers, [H, W].

    Raises:
        DataError: the file is not an image of colours, or is of a format that changes them.
    """
    image = open_image(path)
    _refuse_lossy(path, image)
    if image.mode not in ("RGB", "RGBA", "P", "PA"):
        raise DataError(
            f"{path}: a label image of colours must be RGB or have a palette, but this one is"
            f" {image.mode}; set label_format: ids if it holds ids (of a folder: ids instead of"
            " colours)"
        )
    return colour_code(np.asarray(image.convert("RGB")).astype(np.int32))


def holds_colours(path: Path) -> bool:
    """Whether a label image holds colours: it is RGB, and its channels differ.

    Raises:
        DataError: it is not an image that can be read.
    """
    return _has_colours(open_image(path))


def _has_colours(image: Image.Image) -> bool:
    """Whether an image is RGB, and its channels differ."""
    if image.mode not in ("RGB", "RGBA"):
        return False
    pixels = np.asarray(image)[..., :3]
    return bool((pixels != pixels[..., :1]).any())


def is_lossy(path: Path, image: Image.Image) -> str:
    """The name of a format that (may) change the numbers of a label; empty for an exact one."""
    if image.format == "WEBP":
        return "lossy WebP" if _is_lossy_webp(path) else ""
    return _LOSSY.get(image.format or "", "")


def colour_code(colour: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """RGB [..., 3] -> one number each."""
    code: npt.NDArray[np.int32] = (colour[..., 0] << 16) | (colour[..., 1] << 8) | colour[..., 2]
    return code


class Scale:
    """What Pillow multiplies a file's values by while it decodes them."""

    def __init__(self) -> None:
        self._factor = 1.0

    def note(self, image: ImageFile.ImageFile) -> None:
        """Look at the encoding; after decoding it is no longer known."""
        for tile in image.tile:
            arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
            encoding = arguments[0] if arguments else ""
            if encoding in _STRETCHED:
                self._factor = _STRETCHED[encoding]
            elif tile[0] in ("ppm", "ppm_plain") and len(arguments) > 1:
                highest = 65535 if image.mode.startswith("I") else 255
                self._factor = highest / int(arguments[1])

    def undo(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The values as the file holds them."""
        if self._factor == 1.0:
            return values.astype(np.int64)
        return np.rint(values / self._factor).astype(np.int64)


def _opened(path: Path, *, first_channel: bool = False) -> tuple[Image.Image, Scale]:
    """A decoded label image, and what its values were multiplied by."""
    scale = Scale()

    def prepare(image: ImageFile.ImageFile) -> None:
        scale.note(image)
        if first_channel:
            _keep_low_bytes(image)

    image = open_image(path, prepare)
    _refuse_lossy(path, image)
    return image, scale


def _ids(
    path: Path, image: Image.Image, scale: Scale, *, first_channel: bool = False
) -> npt.NDArray[np.int64]:
    """The ids of a decoded label image, as `read_ids` gives them."""
    values = np.asarray(image)
    if image.mode in ("RGB", "RGBA"):
        ids = _first_channel(path, values, equal=not first_channel)
    elif image.mode in _ONE_NUMBER:
        ids = scale.undo(values[..., 0] if values.ndim == 3 else values)
    else:
        raise DataError(
            f"{path}: a label image must hold one id per pixel (grey or palette), but this one is"
            f" {image.mode}; save it as a grey PNG of 8 or 16 bit"
        )
    within = values.dtype == np.uint8 or not ids.size  # looking at 8 bits costs time
    if not within and (ids.min() < 0 or ids.max() >= RAW_IDS):
        raise DataError(f"{path}: label ids must lie between 0 and {RAW_IDS - 1}")
    return ids


def _first_channel(
    path: Path, pixels: npt.NDArray[np.uint8], *, equal: bool
) -> npt.NDArray[np.int64]:
    if equal and (pixels[..., :3] != pixels[..., :1]).any():
        raise DataError(
            f"{path}: a label image must hold one id per pixel (grey or palette), but this one is"
            " RGB, with colours; set label_format: colours if they are those of a public data set,"
            " or say in 'colours' of a folder what they mean"
        )
    return pixels[..., 0].astype(np.int64)


def _refuse_lossy(path: Path, image: Image.Image) -> None:
    name = is_lossy(path, image)
    if not name:
        return
    pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    _, counts = np.unique(colour_code(pixels), return_counts=True)
    share = counts[counts < _RARE * counts.sum()].sum() / max(counts.sum(), 1)
    raise DataError(
        f"{path}: labels must not be {name}, whose compression changes ids: at least"
        f" {100 * share:.1f} % of the pixels here have stray values, and others may be wrong"
        " unnoticed; export the labels again as PNG"
    )


def _is_lossy_webp(path: Path) -> bool:
    """Whether a WebP file has a chunk of lossy pixels."""
    with path.open("rb") as file:
        data = file.read()
    position = 12  # after RIFF, the size and WEBP
    while position + 8 <= len(data):
        name = data[position : position + 4]
        if name in (b"VP8 ", b"ANMF"):
            return True
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return False


def _keep_low_bytes(image: ImageFile.ImageFile) -> None:
    """Let the decoder keep the low byte of each 16-bit channel, which holds ids, not the high."""
    tiles: list[Any] = []
    for codec, extents, offset, mode in image.tile:
        tiles.append((codec, extents, offset, "RGB;16L" if mode == "RGB;16B" else mode))
    image.tile = tiles


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an image has several channels of 16 bit, of which the decoder keeps the high byte.

    Args:
        image: before its pixels are decoded.
    """
    return any(_swapped(tile[3]) is not None for tile in image.tile)


def keep_other_bytes(image: ImageFile.ImageFile) -> None:
    """Let the decoder keep the low byte of each channel of an image that `is_deep`."""
    tiles: list[Any] = []
    for codec, extents, offset, arguments in image.tile:
        tiles.append((codec, extents, offset, _swapped(arguments) or arguments))
    image.tile = tiles


def _swapped(arguments: Any) -> Any:
    """A decoder's arguments for the other order of bytes; None where it has not two of a colour."""
    several = isinstance(arguments, tuple) and bool(arguments)
    mode = str(arguments[0] if several else arguments)
    ending = _OTHER_BYTE.get(mode[-4:])
    if ending is None or not mode.startswith("RGB"):
        return None
    other = mode[:-4] + ending
    return (other, *arguments[1:]) if several else other
