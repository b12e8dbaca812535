"""Counting the classes of a source once, with several processes, for rare-class sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from muhdi.data.cache import SampleCache
from muhdi.data.catalog import DataContext
from muhdi.data.class_counts import ClassCounts, counts_of
from muhdi.data.domains import cache_of, open_source
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.rare_classes import RareClasses
from muhdi.data.sets import ImageSet
from muhdi.preflight.pool import in_parts, in_processes
from muhdi.recipe.fields import Stage
from muhdi.recipe.schema import Recipe

OnProgress = Callable[[int, int], None]

_ADVICE = "count once with fewer of them, and keep it: muhdi check with --jobs and runtime.cache"

# What a worker process works on: a set, and the number of classes; set once at its start.
_work: list[tuple[ImageSet, int]] = []


def rare_stages(recipe: Recipe) -> list[Stage]:
    """The stages of a recipe that draw source images for classes."""
    stages = []
    for stage in recipe.stages():
        if stage.config.iterations and stage.config.rare_classes is not None:
            stages.append(stage)
    return stages


def rare_classes(
    recipe: Recipe, source: PreparedSet, counts: ClassCounts
) -> dict[int, RareClasses]:
    """What each of `rare_stages` draws source images from, by the stage's number.

    Args:
        recipe: of the run.
        source: its training images, with labels.
        counts: of them, see `count_classes`.

    Raises:
        DataError: no pixel is of any class.
        RecipeError: no image shows enough of any class.
    """
    classes = recipe.class_set().classes
    stages = rare_stages(recipe)
    found: dict[int, RareClasses] = {}
    for config in dict.fromkeys(stage.config.rare_classes for stage in stages):
        assert config is not None
        alike = [stage for stage in stages if stage.config.rare_classes == config]
        rare = RareClasses(source, counts, config, [stage.key for stage in alike], classes)
        found |= {stage.number: rare for stage in alike}
    return found


def counted_source(
    recipe: Recipe, jobs: int | None = None, on_progress: OnProgress = lambda done, total: None
) -> tuple[ClassCounts, dict[int, RareClasses]]:
    """The classes of a recipe's source, opened for that, and what its stages draw from.

    Args:
        recipe: with a source.
        jobs: number of processes; None: one per core.
        on_progress: called with the number of labels that are counted, and of all.

    Raises:
        MuhdiError: the source cannot be opened or read, has no labels, or none that can be drawn
            for.
    """
    assert recipe.source is not None
    images = open_source(recipe.source, DataContext.of(recipe))
    size = recipe.size_of(recipe.source)
    loading = Loading(cache=cache_of(recipe), channels=recipe.channels)
    source = PreparedSet(images, size, size, with_labels=True, loading=loading)
    counts = count_classes(source, len(recipe.class_set()), jobs, on_progress)
    return counts, rare_classes(recipe, source, counts)


def sampling_notes(recipe: Recipe, rare: dict[int, RareClasses]) -> list[str]:
    """What the user should know of the classes that `rare_classes` draws, each line once."""
    classes = recipe.class_set().classes
    notes: list[str] = []
    for drawn in dict.fromkeys(rare.values()):
        notes += drawn.notes(classes)
    return list(dict.fromkeys(notes))


def count_classes(
    samples: PreparedSet,
    classes: int,
    jobs: int | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> ClassCounts:
    """Pixels of each class in each label of a set, from its cache if they were counted before.

    Args:
        samples: the set, with labels. Its cache, if it has one, keeps the counts until a file, or
            what labels mean, changes; sets that are read as fast as a cache are not kept.
        classes: their number.
        jobs: number of processes; None: one per core.
        on_progress: called with the number of labels that are counted, and of all.

    Raises:
        DataError: a label cannot be read.
        RunError: a process was killed.
    """
    images = samples.images
    cache = samples.loading.cache if images.key(0, True) is not None else None
    if cache is None:
        return _counted(images, classes, jobs, on_progress)
    key: list[str | int] = ["class counts", images.fingerprint(), classes]
    known = _cached(cache, key)
    if known is None:
        known = _counted(images, classes, jobs, on_progress)
        cache.put(key, {"pixels": known.pixels, "sizes": known.sizes}, {})
    return known


def _cached(cache: SampleCache, key: list[str | int]) -> ClassCounts | None:
    found = cache.get(key)
    if found is None:
        return None
    arrays, _ = found
    return ClassCounts(arrays["pixels"], arrays["sizes"])


def _counted(
    images: ImageSet, classes: int, jobs: int | None, on_progress: OnProgress
) -> ClassCounts:
    pixels = np.zeros((len(images), classes), np.int64)
    sizes = np.zeros(len(images), np.int64)
    done = 0
    parts = in_parts(range(len(images)))
    begin = (images, classes)
    for indices, part in in_processes(_count, parts, jobs, _take, begin, advice=_ADVICE):
        # In the order of the images, whichever process is first.
        pixels[list(indices)] = part.pixels
        sizes[list(indices)] = part.sizes
        done += len(indices)
        on_progress(done, len(images))
    return ClassCounts(pixels, sizes)


def _take(images: ImageSet, classes: int) -> None:
    _work[:] = [(images, classes)]


def _count(indices: Sequence[int]) -> tuple[Sequence[int], ClassCounts]:
    images, classes = _work[0]
    return indices, counts_of(images, indices, classes)
