"""Labels in several files for each image: one mask per class."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from muhdi.data.label_image import read_mask
from muhdi.data.paths import SplitImages, label_files
from muhdi.data.sets import Unlisted
from muhdi.errors import DataError
from muhdi.recipe.domains import FolderConfig
from muhdi.taxonomy import IGNORE, ClassSet


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a set: a class's pixels are those that are not 0 in its mask.

    Where masks overlap, the class that the recipe names last counts.

    Attributes:
        masks: for each image, label and file of every mask that is there, in the recipe's order.
        unmasked: label of the pixels that no mask covers.
    """

    masks: list[list[tuple[int, Path]]]
    unmasked: int = IGNORE

    @property
    def paths(self) -> list[Path]:
        """The files of all images."""
        return [path for masks in self.masks for _, path in masks]

    @cached_property
    def meaning(self) -> str:
        """A digest of all that turns the pixels of the files into classes."""
        labels = [[label for label, _ in masks] for masks in self.masks]
        return hashlib.sha256(repr((labels, self.unmasked)).encode()).hexdigest()

    def files(self, index: int) -> list[Path]:
        """The files of an image."""
        return [path for _, path in self.masks[index]]

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], Unlisted]:
        """A label, uint8 [H, W]; nothing in masks is unlisted.

        Raises:
            DataError: a file is not a mask, or the image's masks differ in size.
        """
        (first, path), *others = self.masks[index]
        covered = read_mask(path)
        label = np.where(covered, np.uint8(first), np.uint8(self.unmasked))
        for number, other in others:
            covered = read_mask(other)
            if covered.shape != label.shape:
                height, width = covered.shape
                raise DataError(
                    f"{other}: the mask is {width}x{height}, but {path} is"
                    f" {label.shape[1]}x{label.shape[0]}; masks of one image must have one size"
                )
            label[covered] = number
        return label, {}


def find_masks(
    config: FolderConfig, images: SplitImages, root: Path, classes: ClassSet
) -> MaskFiles | None:
    """The masks of a split's images; None if no image has any.

    An image may lack the masks of classes that it does not show, but not all of them, and of all
    training images at least one has the mask of each class.

    Args:
        config: with masks.
        images: of the split.
        root: of the data set.
        classes: of the recipe.

    Raises:
        RecipeError: a pattern or a class is unknown.
        DataError: some images have masks and some do not, or a class has none at all.
    """
    assert config.masks is not None
    domain = config.domain_name
    stems = [image.stem for image in images.paths]
    masks: list[list[tuple[int, Path]]] = [[] for _ in images.paths]
    missing: dict[str, Path] = {}
    for name, pattern in config.masks.items():
        label = _label(name, classes)
        files = label_files(root, pattern, images, stems, domain)
        there = [os.path.isfile(path) for path in files]
        for found, path, exists in zip(masks, files, there, strict=True):
            if exists:
                found.append((label, path))
        if not any(there):
            missing[name] = files[0]
    if not any(masks) and not images.chosen:
        return None
    # A few images need not show every class.
    if missing and images.name == "train" and not images.chosen:
        name, path = next(iter(missing.items()))
        raise DataError(
            f"masks.{name} of {domain!r}: none of {len(masks)} images has such a file; the first"
            f" was looked for as {path}; correct the pattern, or leave the class out of 'masks'"
        )
    for image, found in zip(images.paths, masks, strict=True):
        if not found:
            count = sum(not found for found in masks)
            raise DataError(
                f"{image}: has no mask ({count} of {len(masks)} images of {domain!r} have none);"
                " add one, all black if the image shows no such class, or remove the image"
            )
    unmasked = IGNORE if config.unmasked is None else _label(config.unmasked, classes)
    return MaskFiles(masks, unmasked)


def _label(name: str, classes: ClassSet) -> int:
    return IGNORE if name == "ignore" else classes.index(name)
