"""How many pixels each class has in each label of a set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muhdi.data.sets import ImageSet

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassCounts:
    """Pixels by image and class, of labels as they are stored.

    Attributes:
        pixels: of each class in each image, [N, C].
        sizes: all pixels of each label, ignored ones too, [N].
    """

    pixels: Counts
    sizes: Counts

    @property
    def totals(self) -> Counts:
        """Pixels of each class in all images, [C]."""
        totals: Counts = self.pixels.sum(0)
        return totals

    @property
    def ignored(self) -> int:
        """Pixels of no class."""
        return int(self.sizes.sum() - self.pixels.sum())

    @property
    def images(self) -> Counts:
        """How many images show each class, [C]."""
        images: Counts = (self.pixels > 0).sum(0)
        return images

    def shares(self) -> npt.NDArray[np.float64]:
        """Share of each class among all labelled pixels, [C]; 0 where none is labelled."""
        return self.totals / max(int(self.totals.sum()), 1)

    def shares_of_images(self) -> npt.NDArray[np.float64]:
        """Share of each class among the pixels of each label, [N, C]."""
        return self.pixels / self.sizes[:, None]


def counts_of(images: ImageSet, indices: Iterable[int], classes: int) -> ClassCounts:
    """Open the labels of some images of a set, and count their pixels.

    Args:
        images: the set, with labels.
        indices: of the images, at least one.
        classes: their number.

    Raises:
        DataError: a label cannot be read.
    """
    pixels = []
    sizes = []
    for index in indices:
        label = images.read_label(index)
        pixels.append(np.bincount(label.ravel(), minlength=classes)[:classes])
        sizes.append(label.size)
    return ClassCounts(np.stack(pixels), np.array(sizes, np.int64))
