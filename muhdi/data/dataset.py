"""Image sets: reading images and labels, and preparing them (resize, remember) for training and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from muhdi.errors import MuhdiError
from muhdi.taxonomy import IGNORE, RAW_IDS, UNLISTED

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        name: of the file, for messages.
        image: uint8 RGB [H, W, 3].
        label: uint8 [H', W'], class positions and 255; None where there is none or none was asked for.
        unlisted: raw id -> number of pixels, for ids that the label table does not list (they are ignored).
    """

    name: str
    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8] | None
    unlisted: dict[int, int] = field(default_factory=dict)


class ImageSet(ABC):
    """A split of a domain: images, with or without labels.

    Attributes:
        domain: name of the domain.
        labelled: whether every image has a label.
    """

    domain: str
    labelled: bool

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """What messages call an image."""

    @abstractmethod
    def read(self, index: int, with_label: bool) -> Sample:
        """Image ``index`` as it is stored; its label is opened only if asked for."""


class FileSet(ImageSet):
    """Images and labels in files.

    Args:
        domain: name of the domain.
        images: files, at least one.
        labels: one file per image, or None.
        table: raw id -> label, see `muhdi.taxonomy.ClassSet.lookup`.
        strict: refuse ids that the table does not list.
    """

    def __init__(
        self,
        domain: str,
        images: list[Path],
        labels: list[Path] | None,
        table: npt.NDArray[np.uint8],
        strict: bool = False,
    ) -> None:
        self.domain, self.images, self.labels, self.table, self.strict = domain, images, labels, table, strict
        self.labelled = labels is not None

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return str(self.images[index])

    def read(self, index: int, with_label: bool) -> Sample:
        path = self.images[index]
        image = np.asarray(_open(path).convert("RGB"))
        if not with_label:
            return Sample(str(path), image, None)
        if self.labels is None:
            raise MuhdiError(f"{path}: a label is needed, but the data set {self.domain!r} has none")
        label, unlisted = self._read_label(self.labels[index])
        height, width = label.shape
        if abs(width * image.shape[0] - height * image.shape[1]) > max(image.shape) * max(label.shape) * 0.01:
            raise MuhdiError(
                f"{self.labels[index]}: the label is {width}x{height}, its image {image.shape[1]}x{image.shape[0]}; "
                "both must show the same, at any size but in one aspect ratio"
            )
        return Sample(str(path), image, label, unlisted)

    def _read_label(self, path: Path) -> tuple[npt.NDArray[np.uint8], dict[int, int]]:
        picture = _open(path)
        if picture.mode not in ("L", "P", "I;16", "I", "1"):
            raise MuhdiError(
                f"{path}: a label image must hold one id per pixel (grey or palette), but this one is {picture.mode}"
            )
        raw = np.asarray(picture).astype(np.int64)
        if raw.size and (raw.min() < 0 or raw.max() >= RAW_IDS):
            raise MuhdiError(f"{path}: label ids must lie between 0 and {RAW_IDS - 1}")
        label = self.table[raw]
        missing = label == UNLISTED
        if not missing.any():
            return label, {}
        ids, counts = np.unique(raw[missing], return_counts=True)
        if self.strict:
            listed = ", ".join(map(str, ids[:10]))
            raise MuhdiError(
                f"{path}: raw id {listed} is not in the table; add it to 'ids' of the data set (a class or ignore), or "
                "set strict: false"
            )
        label[missing] = IGNORE
        return label, dict(zip(ids.tolist(), counts.tolist(), strict=True))


def _open(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except FileNotFoundError:
        raise MuhdiError(f"{path}: the file is missing") from None
    except UnidentifiedImageError:
        raise MuhdiError(f"{path}: not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MuhdiError(f"{path}: the image cannot be read: {error}") from None
    return picture


def resize_image(image: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """Bicubic, on uint8, as the reference."""
    if image.shape[1::-1] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def resize_label(label: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """Nearest neighbour."""
    if label.shape[::-1] == size:
        return label
    return np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))


class PreparedSet:
    """An image set at a fixed size, whose decoded samples are remembered up to a budget.

    Args:
        images: the set.
        size: width and height of the images.
        label_size: of the labels; None: as stored.
        with_labels: whether labels are opened at all.
        memory: bytes of samples to remember; what does not fit is read anew each time.
    """

    def __init__(
        self, images: ImageSet, size: Size, label_size: Size | None, *, with_labels: bool, memory: int = 0
    ) -> None:
        self.images, self.size, self.label_size, self.with_labels = images, size, label_size, with_labels
        self.memory = memory
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self.images.read(index, self.with_labels)
        label = sample.label
        if label is not None and self.label_size is not None:
            label = resize_label(label, self.label_size)
        sample = replace(sample, image=resize_image(sample.image, self.size), label=label)
        cost = sample.image.nbytes + (0 if label is None else label.nbytes)
        if cost <= self.memory:
            self.memory -= cost
            self._kept[index] = sample
        return sample
