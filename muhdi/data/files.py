"""Images and labels in files."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.ExifTags import Base as ExifTag

from muhdi.data.channels import COLOURS, Channels, is_other_shape, joined, read_channels, upright
from muhdi.data.label_image import (
    Prepare,
    colour_code,
    decode_image,
    open_image,
    read_colours,
    read_ids,
)
from muhdi.data.polygons import PolygonIds
from muhdi.data.sets import Fit, ImageSet, Sample, Size, Unlisted
from muhdi.errors import DataError
from muhdi.taxonomy import IGNORE, UNLISTED, Colour, hex_colour

_NAMED = 10
"""Unlisted ids that a message names."""
_TURNED = 5
"""EXIF orientations from here on exchange width and height."""


class Palette:
    """The raw ids that colours stand for.

    Args:
        ids: colour -> raw id.
    """

    def __init__(self, ids: Mapping[Colour, int]) -> None:
        self.ids = dict(ids)
        codes = np.array([colour_code(np.array(colour, np.int32)) for colour in ids], np.int32)
        order = np.argsort(codes)
        self._codes = codes[order]
        self._ids = np.array(list(ids.values()), np.int64)[order]

    def read(
        self, codes: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Raw ids of 24-bit colours, and which of the colours are known.

        Both of the shape of ``codes``.
        """
        index = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return self._ids[index], self._codes[index] == codes


@dataclass(frozen=True)
class LabelFiles:
    """The label images of a set, and how their pixels become classes.

    Attributes:
        paths: one file per image.
        table: raw id -> label, see `muhdi.taxonomy.ClassSet.lookup`.
        strict: refuse ids that the table does not list.
        palette: given if label images hold colours instead of raw ids.
        first_channel: the raw id is the first of an RGB label's channels, of 8 or 16 bit.
        polygons: given if the files hold polygons from which raw ids are drawn.
        shared: whether several images have one label on purpose.
    """

    paths: list[Path]
    table: npt.NDArray[np.uint8]
    strict: bool = False
    palette: Palette | None = None
    first_channel: bool = False
    polygons: PolygonIds | None = None
    shared: bool = False

    def files(self, index: int) -> list[Path]:
        """The files of an image."""
        return [self.paths[index]]

    @cached_property
    def meaning(self) -> str:
        """A digest of all that turns the pixels of a file into classes."""
        palette = None
        if self.palette is not None:
            palette = sorted(self.palette.ids.items())
        text = repr((self.table.tobytes(), palette, self.first_channel, self.strict))
        if self.polygons is not None:  # caches that exist are found by the text without them
            text += repr((sorted(self.polygons.ids.items()), self.polygons.undrawn))
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], Unlisted]:
        """A label, uint8 [H, W], and the pixels by raw id or colour that the table does not list.

        Raises:
            DataError: the file is not a label image, or ``strict`` and an id is not listed.
        """
        path = self.paths[index]
        values: npt.NDArray[Any]
        if self.polygons is not None:
            values = self.polygons.draw(path)
            label = self.table[values]
        elif self.palette is None:
            values = read_ids(path, first_channel=self.first_channel)
            label = self.table[values]
        else:
            values = read_colours(path)
            ids, known = self.palette.read(values)
            label = np.where(known, self.table[ids], np.uint8(UNLISTED))
        missing = label == UNLISTED
        if not missing.any():
            return label, {}
        found, counts = np.unique(values[missing], return_counts=True)
        names = [self._name(value) for value in found.tolist()]
        if self.strict:
            what = "raw id" if self.palette is None else "colour"
            raise DataError(
                f"{path}: {what} {', '.join(names[:_NAMED])} is not in the table; add it to 'ids'"
                " of the data set (a class or ignore), correct the label, or set strict: false"
            )
        label[missing] = IGNORE
        return label, dict(zip(names, counts.tolist(), strict=True))

    def _name(self, value: int) -> str:
        """What messages call a raw id or the code of a colour."""
        if self.palette is None:
            return str(value)
        return hex_colour((value >> 16, value >> 8 & 255, value & 255))


class Labels(Protocol):
    """The labels of a set, in one file for each image, in several, or in tables.

    Attributes:
        paths: all files.
        meaning: a digest of all that turns the files into classes.
    """

    @property
    def paths(self) -> list[Path]: ...

    @property
    def meaning(self) -> str: ...

    def files(self, index: int) -> list[Path]:
        """The files of an image."""
        ...

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], Unlisted]:
        """A label, uint8 [H, W], and the pixels by raw id or colour that no table lists."""
        ...


class FileSet(ImageSet):
    """Images and labels in files.

    Args:
        domain: name of the domain.
        images: files, at least one.
        labels: of the images, in the same order; None if there are none.
        fit: how the images are brought to the size that the network sees.
        channels: of the images.
        bands: further files of each image, in the order of their channels; empty: there are none.
    """

    def __init__(
        self,
        domain: str,
        images: list[Path],
        labels: Labels | None = None,
        *,
        fit: Fit = "stretch",
        channels: Channels = COLOURS,
        bands: Sequence[Sequence[Path]] = (),
    ) -> None:
        self.domain = domain
        self.images = images
        self.labels = labels
        self.labelled = labels is not None
        self.fit = fit
        self.channels = channels
        self.bands = bands

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return str(self.images[index])

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        path = self.images[index]
        image = read_image(path, draft, self.channels, self._bands(index))
        if not with_label:
            return Sample(str(path), image, None)
        if self.labels is None:
            raise DataError(f"{path}: a label is needed, but the data set {self.domain!r} has none")
        label, unlisted = self.labels.read(index)
        _check_aspect_ratio(self.labels.files(index)[0], label, image)
        return Sample(str(path), image, label, unlisted)

    def _bands(self, index: int) -> Sequence[Path]:
        """The further files of an image."""
        return self.bands[index] if self.bands else ()

    def read_label(self, index: int) -> npt.NDArray[np.uint8]:
        assert self.labels is not None
        label, _ = self.labels.read(index)
        return label

    def stored_size(self, index: int) -> Size | None:
        try:
            with self.images[index].open("rb") as file, Image.open(file) as image:
                return _as_stored(image, image.size)
        except Exception:  # reading the file will report it
            return None

    def key(self, index: int, with_label: bool) -> Any:
        try:
            image = _facts(self.images[index])
            label: list[Any] | None = None
            if with_label and self.labels is not None:
                files = [_facts(path) for path in self.labels.files(index)]
                label = [*files, self.labels.meaning]
            if self.channels.are_plain:  # caches that exist are found by the text without more
                return [image, label]
            further = [_facts(path) for path in self._bands(index)]
        except OSError:  # reading the file will report it
            return None
        return [image, label, further, self.channels.count, self.channels.pixel_range]

    def fingerprint(self) -> str:
        paths = list(self.images)
        meaning = ""
        if self.labels is not None:
            paths += self.labels.paths
            meaning = self.labels.meaning
        if not self.channels.are_plain:
            paths += [path for further in self.bands for path in further]
            meaning += f" {self.channels}"
        files = [_facts(path) for path in paths]
        return hashlib.sha256(json.dumps([files, meaning]).encode()).hexdigest()


def read_image(
    path: Path,
    draft: Size | None = None,
    channels: Channels = COLOURS,
    bands: Sequence[Path] = (),
) -> npt.NDArray[np.uint8]:
    """An image file of any kind as uint8 RGB [H, W, 3], the way up that viewers show it.

    Labels are drawn on images as they are shown, so they need no turning.

    Args:
        path: of the file.
        draft: as for `ImageSet.read`; of an image of several files, or of more than 8 bits, it does
            not count.
        channels: of the image: with more than three it is [H, W, C].
        bands: further files that hold channels of it.

    Raises:
        DataError: a file is missing, or is not an image that can be read, or all of them together
            have other channels.
    """
    if not channels.are_plain or bands:
        ends = channels.pixel_range
        further = [(band, read_channels(band, ends)) for band in bands]
        return joined(path, read_channels(path, ends), further, channels.count)
    return rgb_pixels(open_image(path, _drafted(draft)), str(path))


def decode_rgb(data: bytes, name: str, draft: Size | None = None) -> npt.NDArray[np.uint8]:
    """`read_image` of a file's contents.

    Args:
        data: of an image file.
        name: of it, for messages.
        draft: as for `ImageSet.read`.

    Raises:
        DataError: it is not an image that can be read.
    """
    return rgb_pixels(decode_image(io.BytesIO(data), name, _drafted(draft)), name)


def _drafted(size: Size | None) -> Prepare | None:
    return None if size is None else partial(_draft, size=size)


def rgb_pixels(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    """A decoded image of any kind as uint8 RGB [H, W, 3], the way up that viewers show it.

    Args:
        image: it may be turned in place.
        name: of it, for messages.

    Raises:
        DataError: its pixels are not integers of up to 16 bit.
    """
    upright(image)
    if image.mode.startswith("I"):  # Pillow would cut 16 bit off at 255 instead of scaling them
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() >= 2**16):
            raise DataError(
                f"{name}: its pixels have more than 16 bit; save it with 8 or 16 bit per channel"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise DataError(
            f"{name}: its pixels are not integers; save it with 8 or 16 bit per channel"
        )
    if image.mode != "RGB":  # else Pillow would copy it
        image = image.convert("RGB")
    return np.asarray(image)


def _check_aspect_ratio(
    path: Path, label: npt.NDArray[np.uint8], image: npt.NDArray[np.uint8]
) -> None:
    """Refuse a label of another aspect ratio than its image, to one percent."""
    height, width = label.shape
    if is_other_shape((width, height), (image.shape[1], image.shape[0])):
        raise DataError(
            f"{path}: the label is {width}x{height}, its image {image.shape[1]}x{image.shape[0]};"
            " both must show the same, at any size but in one aspect ratio"
        )


def _facts(path: Path) -> list[str | int]:
    """Path, size and date of a file."""
    facts = path.stat()
    return [str(path.absolute()), facts.st_size, facts.st_mtime_ns]


def _draft(image: ImageFile.ImageFile, size: Size) -> None:
    """Let a decoder that can make the image smaller do so."""
    image.draft("RGB", _as_stored(image, size))


def _as_stored(image: Image.Image, size: Size) -> Size:
    """The size of an image before it is turned as its EXIF data say; after it, of one before."""
    with suppress(Exception):  # broken EXIF data count as none
        if int(image.getexif().get(ExifTag.Orientation, 1)) >= _TURNED:
            return size[1], size[0]
    return size
