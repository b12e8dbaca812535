"""A recipe's domains before training: samples as the network sees them, and class frequencies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.rare_classes import RareClasses
from muhdi.data.sets import Sample, spread_indices
from muhdi.errors import DataError, MuhdiError
from muhdi.preflight.count_classes import counted_source, rare_stages
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
        samples: some of its images, evenly spaced, at the size that the network sees.
        pixels: labelled pixels per class, [C], of the labels that were counted.
        images: how many of these labels hold each class, [C].
        ignored: pixels that are ignored.
        looked: how many labels were counted.
        unlisted: pixels by raw id, or colour, that the label table does not list; they are ignored
            too.
        rare: what stages that sample rare classes draw from, by the stage's number; of the source.
    """

    domain: str
    split: str
    counts: dict[str, int]
    labelled: bool
    samples: list[Sample]
    pixels: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    ignored: int
    looked: int
    unlisted: dict[str, int]
    rare: dict[int, RareClasses] = field(default_factory=dict)

    def shares(self) -> list[float | None]:
        """Percent of the labelled pixels per class; None for each without labels."""
        total = int(self.pixels.sum())
        if not total:
            return [None] * len(self.pixels)
        return [100 * float(count) / total for count in self.pixels]


def inspect_domains(
    recipe: Recipe,
    shown: int,
    looked: int,
    on_progress: Callable[[str], None] = lambda domain: None,
) -> list[Inspected]:
    """Look at every domain of a recipe, each once.

    Args:
        recipe: whose domains they are.
        shown: samples per domain.
        looked: labels per domain, at most, that are counted; of a source of which a stage samples
            rare classes, all are.
        on_progress: called with the name of each domain.

    Raises:
        DataError: a root, pattern, file or label is wrong; the message begins with the domain's
            key.
    """
    found: dict[str, Inspected] = {}
    for key, data in recipe.domains():
        if data.domain_name in found:
            continue
        on_progress(data.domain_name)
        try:
            inspected = _inspect(recipe, data, shown, looked, source=key == "source")
        except MuhdiError as error:
            raise DataError(f"{key}: {error}") from None
        if key == "source" and rare_stages(recipe):
            inspected = _sampled(recipe, inspected)
        found[data.domain_name] = inspected
    return list(found.values())


def _inspect(
    recipe: Recipe, data: DomainConfig, shown: int, looked: int, *, source: bool
) -> Inspected:
    context = DataContext.of(recipe)
    # Labels of a target's training images are never opened.
    train = open_split(data, "train", context, labels=source)
    val = open_split(data, "val", context, labels=True)
    split, images = ("train", train) if source else ("val", val)
    size = recipe.size_of(data)
    loading = Loading(channels=recipe.channels)
    samples = PreparedSet(images, size, size, with_labels=images.labelled, loading=loading)
    pixels = np.zeros(256, np.int64)
    having = np.zeros(256, np.int64)
    unlisted: Counter[str] = Counter()
    counted = spread_indices(len(images), looked) if images.labelled else []
    for index in counted:
        sample = samples[index]
        assert sample.label is not None
        counts = np.bincount(sample.label.ravel(), minlength=256)
        pixels += counts
        having += counts > 0
        unlisted.update(sample.unlisted)
    return Inspected(
        domain=data.domain_name,
        split=split,
        counts={"train": len(train), "val": len(val)},
        labelled=images.labelled,
        samples=[samples[index] for index in spread_indices(len(images), shown)],
        pixels=pixels[: len(context.classes)],
        images=having[: len(context.classes)],
        ignored=int(pixels[IGNORE]),
        looked=len(counted),
        unlisted=dict(unlisted),
    )


def _sampled(recipe: Recipe, source: Inspected) -> Inspected:
    """The source with all of its labels counted, and what stages draw from it."""
    counts, rare = counted_source(recipe)
    return replace(
        source,
        pixels=counts.totals,
        images=counts.images,
        ignored=counts.ignored,
        looked=len(counts.sizes),
        rare=rare,
    )
