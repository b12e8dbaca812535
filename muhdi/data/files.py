"""Images and labels in files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from muhdi.data.sets import Fit, ImageSet, Sample, Size, Unlisted
from muhdi.errors import MuhdiError
from muhdi.taxonomy import IGNORE, RAW_IDS, UNLISTED, Colour

_ORIENTATION = 0x0112  # of the EXIF standard
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Palette:
    """The raw ids that colours stand for.

    Args:
        ids: colour -> raw id.
    """

    def __init__(self, ids: Mapping[Colour, int]) -> None:
        self.ids = dict(ids)
        codes = np.array([_code(np.array(colour, np.int32)) for colour in ids], np.int32)
        order = np.argsort(codes)
        self._codes, self._ids = codes[order], np.array(list(ids.values()), np.int64)[order]

    def read(
        self, codes: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Raw ids of 24-bit colours, and which of the colours are known.

        Both of the shape of ``codes``.
        """
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return self._ids[place], self._codes[place] == codes


class FileSet(ImageSet):
    """Images and labels in files.

    Args:
        domain: name of the domain.
        images: files, at least one.
        labels: one file per image, or None.
        table: raw id -> label, see `muhdi.taxonomy.ClassSet.lookup`.
        strict: refuse ids that the table does not list.
        palette: given where label images hold colours instead of raw ids.
        first_channel: the raw id is the first of an RGB label's channels, of 8 or 16 bit.
        fit: how the images come to the size that the network sees.
    """

    def __init__(
        self,
        domain: str,
        images: list[Path],
        labels: list[Path] | None,
        table: npt.NDArray[np.uint8],
        strict: bool = False,
        *,
        palette: Palette | None = None,
        first_channel: bool = False,
        fit: Fit = "stretch",
    ) -> None:
        self.domain, self.images, self.labels, self.table, self.strict = (
            domain,
            images,
            labels,
            table,
            strict,
        )
        self.palette, self.first_channel, self.fit = palette, first_channel, fit
        self.labelled = labels is not None

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return str(self.images[index])

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        path = self.images[index]
        image = read_image(path, draft)
        if not with_label:
            return Sample(str(path), image, None)
        if self.labels is None:
            raise MuhdiError(
                f"{path}: a label is needed, but the data set {self.domain!r} has none"
            )
        label, unlisted = self._read_label(self.labels[index])
        height, width = label.shape
        if (
            abs(width * image.shape[0] - height * image.shape[1])
            > max(image.shape) * max(label.shape) * 0.01
        ):
            raise MuhdiError(
                f"{self.labels[index]}: the label is {width}x{height}, its image"
                f" {image.shape[1]}x{image.shape[0]}; both must show the same, at any size but in"
                " one aspect ratio"
            )
        return Sample(str(path), image, label, unlisted)

    def key(self, index: int, with_label: bool) -> Any:
        try:
            image = _facts(self.images[index])
            label = (
                None
                if not with_label or self.labels is None
                else [_facts(self.labels[index]), self._meaning]
            )
        except OSError:  # reading it will say so
            return None
        return [image, label]

    def fingerprint(self) -> str:
        files = [_facts(path) for path in [*self.images, *(self.labels or [])]]
        return hashlib.sha256(json.dumps([files, self._meaning]).encode()).hexdigest()

    @cached_property
    def _meaning(self) -> str:
        """What turns the pixels of a label file into classes."""
        palette = None if self.palette is None else sorted(self.palette.ids.items())
        text = repr((self.table.tobytes(), palette, self.first_channel, self.strict))
        return hashlib.sha256(text.encode()).hexdigest()

    def _read_label(self, path: Path) -> tuple[npt.NDArray[np.uint8], Unlisted]:
        values: npt.NDArray[Any]
        if self.palette is None:
            values = _raw_ids(path, first_channel=self.first_channel)
            label = self.table[values]
        else:
            values = _colour_codes(path)
            ids, known = self.palette.read(values)
            label = np.where(known, self.table[ids], np.uint8(UNLISTED))
        missing = label == UNLISTED
        if not missing.any():
            return label, {}
        found, counts = np.unique(values[missing], return_counts=True)
        names = [
            str(value) if self.palette is None else f"#{value:06x}" for value in found.tolist()
        ]
        if self.strict:
            what = "raw id" if self.palette is None else "colour"
            raise MuhdiError(
                f"{path}: {what} {', '.join(names[:10])} is not in the table; add it to 'ids' of"
                " the data set (a class or ignore), correct the label, or set strict: false"
            )
        label[missing] = IGNORE
        return label, dict(zip(names, counts.tolist(), strict=True))


def read_image(path: Path, draft: Size | None = None) -> npt.NDArray[np.uint8]:
    """An image file of any kind as uint8 RGB [H, W, 3], the right way up.

    So it is shown, and labels are drawn.

    ``draft`` as for `ImageSet.read`.

    Raises:
        MuhdiError: the file is missing, or is no image that can be read.
    """
    picture = _open(path, draft=draft)
    way_up = _UPRIGHT.get(_orientation(picture))
    if picture.mode.startswith("I"):  # Pillow would cut 16 bit off at 255 instead of scaling them
        values = np.asarray(picture)
        if values.size and (values.min() < 0 or values.max() >= 2**16):
            raise MuhdiError(
                f"{path}: its pixels have more than 16 bit; save it with 8 or 16 bit per channel"
            )
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise MuhdiError(
            f"{path}: its pixels are no integers; save it with 8 or 16 bit per channel"
        )
    if way_up is not None:
        picture = picture.transpose(way_up)
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    """The number by which a camera says how it was held.

    1, upright, where there is none or what there is is broken.
    """
    with suppress(Exception):  # whatever the parser makes of arbitrary bytes
        return int(picture.getexif().get(_ORIENTATION, 1))
    return 1


def _raw_ids(path: Path, *, first_channel: bool) -> npt.NDArray[np.int64]:
    """The ids of a label image, [H, W]."""
    picture = _open(path, low_bytes=first_channel)
    if first_channel and picture.mode in ("RGB", "RGBA"):
        return np.asarray(picture)[..., 0].astype(np.int64)
    if picture.mode not in ("L", "P", "I;16", "I", "1"):
        raise MuhdiError(
            f"{path}: a label image must hold one id per pixel (grey or palette), but this one is"
            f" {picture.mode}"
        )
    raw = np.asarray(picture).astype(np.int64)
    if raw.size and (raw.min() < 0 or raw.max() >= RAW_IDS):
        raise MuhdiError(f"{path}: label ids must lie between 0 and {RAW_IDS - 1}")
    return raw


def _colour_codes(path: Path) -> npt.NDArray[np.int32]:
    """The colours of a label image as 24-bit numbers, [H, W]."""
    picture = _open(path)
    if picture.mode not in ("RGB", "RGBA", "P"):
        raise MuhdiError(
            f"{path}: a label image of colours must be RGB or have a palette, but this one is"
            f" {picture.mode}; set label_format: ids if it holds ids"
        )
    return _code(np.asarray(picture.convert("RGB")).astype(np.int32))


def _code(colour: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """RGB [..., 3] -> one number each."""
    code: npt.NDArray[np.int32] = (colour[..., 0] << 16) | (colour[..., 1] << 8) | colour[..., 2]
    return code


def _facts(path: Path) -> list[str | int]:
    """Place, size and date of a file."""
    facts = path.stat()
    return [str(path.absolute()), facts.st_size, facts.st_mtime_ns]


def _open(path: Path, *, low_bytes: bool = False, draft: Size | None = None) -> Image.Image:
    """A decoded image; of 16-bit RGB Pillow keeps the high bytes, or the low ones if asked to."""
    try:
        picture = Image.open(path)
        if draft is not None:
            picture.draft("RGB", draft if _orientation(picture) < 5 else draft[::-1])
        if low_bytes:
            tiles: list[Any] = [
                (*tile[:3], "RGB;16L" if tile[3] == "RGB;16B" else tile[3]) for tile in picture.tile
            ]
            picture.tile = tiles
        picture.load()
    except FileNotFoundError:
        raise MuhdiError(f"{path}: the file is missing") from None
    except UnidentifiedImageError:
        raise MuhdiError(f"{path}: not an image") from None
    except Exception as error:  # whatever the decoders make of arbitrary bytes
        raise MuhdiError(f"{path}: the image cannot be read: {error}") from None
    return picture
