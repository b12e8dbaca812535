"""Labels in several files for each image: one mask per class."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from muhdi.data.label_image import read_ids
from muhdi.data.paths import SplitImages, label_files
from muhdi.data.sets import Unlisted
from muhdi.errors import DataError
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
        covered = read_ids(path) != 0
        label = np.where(covered, np.uint8(first), np.uint8(self.unmasked))
        for number, other in others:
            covered = read_ids(other) != 0
            if covered.shape != label.shape:
                height, width = covered.shape
                raise DataError(
                    f"{other}: the mask is {width}x{height}, but {path} is"
                    f" {label.shape[1]}x{label.shape[0]}; masks of one image must have one size"
                )
            label[covered] = number
        return label, {}


def find_masks(
    patterns: dict[str, str],
    unmasked: str | None,
    images: SplitImages,
    root: Path,
    domain: str,
    classes: ClassSet,
) -> MaskFiles | None:
    """The masks of a split's images; None if no image has any.

    An image may lack the masks of classes that it does not show, but not all of them.

    Args:
        patterns: by class, see `muhdi.data.paths.label_files`.
        unmasked: class of the pixels that no mask covers; None or ``ignore``: none.
        images: of the split.
        root: of the data set.
        domain: name of the domain, for messages.
        classes: of the recipe.

    Raises:
        RecipeError: a pattern or a class is unknown.
        DataError: some images have masks and some do not.
    """
    stems = [image.stem for image in images.paths]
    masks: list[list[tuple[int, Path]]] = [[] for _ in images.paths]
    for name, pattern in patterns.items():
        label = IGNORE if name == "ignore" else classes.index(name)
        files = label_files(root, pattern, images, stems, domain)
        for found, path in zip(masks, files, strict=True):
            if os.path.isfile(path):
                found.append((label, path))
    if not any(masks):
        return None
    for image, found in zip(images.paths, masks, strict=True):
        if not found:
            count = sum(not found for found in masks)
            raise DataError(
                f"{image}: has no mask ({count} of {len(masks)} images of {domain!r} have none);"
                " add one of a class that it shows, or remove the image"
            )
    rest = IGNORE if unmasked in (None, "ignore") else classes.index(str(unmasked))
    return MaskFiles(masks, rest)
