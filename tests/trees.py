"""Small trees of the public data sets in their official layouts: a few images of 53x37 each."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.public.labels import label_table, raw_labels
from muhdi.data.sets import ImageSet
from muhdi.recipe import plugins
from muhdi.recipe.domains import PublicConfig
from muhdi.taxonomy import CLASS_SETS, IGNORE, UNLISTED, ClassSet

SIZE = (53, 37)
SHAPE = SIZE[::-1]
URBAN19 = CLASS_SETS["urban19"]
DATASETS = ("gta5", "synthia", "cityscapes", "idd", "mapillary", "acdc")


@dataclass(frozen=True)
class Names:
    """Where a data set keeps an image and its labels; {s}: split, {c}: condition, {n}: number."""

    image: str
    ids: str
    train_ids: str
    colours: str


def _suffixed(image: str, label: str, ids: str, train_ids: str, colours: str) -> Names:
    return Names(image, *(f"{label}_{ending}.png" for ending in (ids, train_ids, colours)))


NAMES = {
    "gta5": Names("images/{n:05d}.png", *["labels/{n:05d}.png"] * 3),
    "synthia": Names("RGB/{n:07d}.png", *["GT/CLASSES/{n:07d}.png"] * 2, "GT/COLOR/{n:07d}.png"),
    "cityscapes": _suffixed(
        "leftImg8bit/{s}/aachen/aachen_{n:06d}_000019_leftImg8bit.png",
        "gtFine/{s}/aachen/aachen_{n:06d}_000019_gtFine",
        "labelIds",
        "labelTrainIds",
        "color",
    ),
    "idd": _suffixed(
        "leftImg8bit/{s}/30/{n:06d}_leftImg8bit.png",
        "gtFine/{s}/30/{n:06d}_gtFine",
        "labelids",
        "labelcsTrainIds",
        "color",
    ),
    "mapillary": Names("{s}/images/pic_{n}.jpg", *["{s}/labels/pic_{n}.png"] * 3),
    "acdc": _suffixed(
        "rgb_anon/{c}/{s}/GOPR0475/GOPR0475_frame_{n:06d}_rgb_anon.png",
        "gt/{c}/{s}/GOPR0475/GOPR0475_frame_{n:06d}_gt",
        "labelIds",
        "labelTrainIds",
        "labelColor",
    ),
}


def generator(*seed: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(seed).encode()))


def raw_ids(dataset: str, number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The raw ids of an image's label, in blocks of 3x3.

    Every id that the data set defines may occur.
    """
    ids = np.array([label.id for label in raw_labels(dataset)], np.uint8)
    small = generator(dataset, number).choice(ids, (-(-shape[0] // 3), -(-shape[1] // 3)))
    return small.repeat(3, 0).repeat(3, 1)[: shape[0], : shape[1]]


def write_image(path: Path, seed: object = 0, shape: tuple[int, int] = SHAPE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator(seed).integers(0, 256, (*shape, 3), np.uint8)).save(path)


def write_label(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_16_bit_rgb(path: Path, pixels: np.ndarray) -> None:
    """A PNG of 16 bit per channel, which Pillow reads but does not write."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def colours_of(dataset: str, ids: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] of raw ids."""
    table = np.zeros((256, 3), np.uint8)
    for label in raw_labels(dataset):
        table[label.id] = label.colour
    return table[ids]


def official_split(dataset: str, split: str) -> str:
    return "validation" if (dataset, split) == ("mapillary", "val") else split


def write_tree(
    dataset: str,
    root: Path,
    split: str = "train",
    *,
    labels: str | None = "ids",
    numbers: tuple[int, ...] = (1, 2, 3),
    condition: str = "rain",
    shape: tuple[int, int] = SHAPE,
) -> list[Path]:
    """Write the images of a split, with labels of a kind (``ids``, ``train_ids``, ``colours``) or
    without any.
    """
    images = []
    for number in numbers:
        values = {"s": official_split(dataset, split), "c": condition, "n": number}
        path = root / NAMES[dataset].image.format(**values)
        write_image(path, (dataset, split, number), shape)
        images.append(path)
        if labels is None:
            continue
        file = root / getattr(NAMES[dataset], labels).format(**values)
        if labels == "train_ids":
            pixels = generator(number).integers(0, 19, shape).astype(np.uint8)
            pixels[0, 0] = 255
        elif labels == "colours":
            pixels = colours_of(dataset, raw_ids(dataset, number, shape))
        else:
            pixels = raw_ids(dataset, number, shape)
        write_label(file, pixels)
    return images


def config(dataset: str, root: Path | str | None, **options: object) -> PublicConfig:
    kind = plugins.find_section("dataset", dataset)
    return kind(dataset=dataset, root=None if root is None else str(root), **options)


def opened(
    dataset: str,
    root: Path,
    split: str = "train",
    classes: ClassSet = URBAN19,
    labels: bool = True,
    **options: object,
) -> ImageSet:
    return open_split(
        config(dataset, root, **options),
        split,
        DataContext(classes, (32, 16), ".", 0),
        labels=labels,
    )


def mapped(dataset: str, ids: np.ndarray, classes: ClassSet = URBAN19) -> np.ndarray:
    """The labels of raw ids."""
    label = label_table(dataset, classes)[ids]
    return np.where(label == UNLISTED, IGNORE, label)
