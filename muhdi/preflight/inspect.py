"""Looking at a recipe's domains before training.

Samples as the network sees them, and how frequent each class is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muhdi.data.catalog import Context, open_split
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import Sample
from muhdi.errors import MuhdiError
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.schema import Recipe
from muhdi.taxonomy import IGNORE


@dataclass(frozen=True)
class Inspected:
    """A domain.

    Attributes:
        domain: its name.
        split: ``train`` for the source, whose labels are trained on; ``val`` for the others.
        counts: number of images by split.
        labelled: whether the split has labels.
        samples: some of its images, spread evenly, at the size that the network sees.
        pixels: labelled pixels per class, [C], of the images that were looked at.
        ignored: pixels that are ignored.
        looked: how many labels were looked at.
        unlisted: raw ids, or colours, that the label table does not list, and their pixels; they
            are ignored too.
    """

    domain: str
    split: str
    counts: dict[str, int]
    labelled: bool
    samples: list[Sample]
    pixels: npt.NDArray[np.int64]
    ignored: int
    looked: int
    unlisted: dict[str, int]

    def shares(self) -> list[float | None]:
        """Percent of the labelled pixels per class; None without labels."""
        total = int(self.pixels.sum())
        return [100 * float(count) / total if total else None for count in self.pixels]


def inspect_domains(
    recipe: Recipe, shown: int, looked: int, progress: Callable[[str], None] = lambda domain: None
) -> list[Inspected]:
    """Look at every domain of a recipe, each once.

    Args:
        recipe: whose domains they are.
        shown: samples per domain.
        looked: labels per domain, at most, that are counted.
        progress: called with the name of each domain.

    Raises:
        MuhdiError: a root, pattern, file or label is wrong.
    """
    context = Context.of(recipe)
    found: dict[str, Inspected] = {}
    for key, data in recipe.domains():
        if data.domain_name in found:
            continue
        progress(data.domain_name)
        try:
            found[data.domain_name] = _inspect(
                recipe, data, key == "source", context, shown, looked
            )
        except MuhdiError as error:
            raise MuhdiError(f"{key}: {error}") from None
    return list(found.values())


def _inspect(
    recipe: Recipe, data: DomainConfig, source: bool, context: Context, shown: int, looked: int
) -> Inspected:
    # Labels of a target's training images are never opened.
    splits = {
        name: open_split(data, name, context, labels=source or name == "val")
        for name in ("train", "val")
    }
    split = "train" if source else "val"
    images, size = splits[split], recipe.size_of(data)
    labels = PreparedSet(images, size, size, with_labels=images.labelled)
    pixels, unlisted = np.zeros(256, np.int64), Counter[str]()
    places = _spread(len(images), looked) if images.labelled else []
    for place in places:
        sample = labels[place]
        assert sample.label is not None
        pixels += np.bincount(sample.label.ravel(), minlength=256)
        unlisted.update(sample.unlisted)
    return Inspected(
        data.domain_name,
        split,
        {name: len(some) for name, some in splits.items()},
        images.labelled,
        [labels[place] for place in _spread(len(images), shown)],
        pixels[: len(context.classes)],
        int(pixels[IGNORE]),
        len(places),
        dict(unlisted),
    )


def _spread(length: int, count: int) -> list[int]:
    """Places spread evenly."""
    chosen: list[int] = np.unique(
        np.linspace(0, length - 1, min(count, length)).round().astype(int)
    ).tolist()
    return chosen
