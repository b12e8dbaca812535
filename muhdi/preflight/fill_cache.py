"""Filling the cache before training, with several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.errors import DataError, MuhdiError, RecipeError
from muhdi.preflight.count_classes import counted_source, rare_stages
from muhdi.preflight.pool import in_parts, in_processes
from muhdi.recipe.schema import Recipe

# What a worker process works on; set once when it starts.
_sets: list[PreparedSet] = []


def prepared_sets(recipe: Recipe) -> list[PreparedSet]:
    """Every set that a run of the recipe reads and that a cache can help."""
    domains = Domains(recipe)
    sets = list(domains.validation.values())
    targets = dict.fromkeys(chain.from_iterable(domains.targets))
    for samples in (domains.source, *targets, *domains.labelled):
        if samples is not None:
            sets.append(samples)
    return [samples for samples in sets if samples.images.key(0, samples.with_labels) is not None]


def prepare(
    recipe: Recipe,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Put every sample of a recipe into its cache; samples that are there already stay.

    If a stage samples rare classes, what it has to count goes there, too.

    Args:
        recipe: with ``runtime.cache``.
        jobs: number of processes; None: one per core.
        on_progress: called with the number of samples that are done, and of all.

    Returns:
        The number of samples.

    Raises:
        RecipeError: the recipe names no cache, or reads no files.
        DataError: the disk has no room, or files cannot be read; all others are in the cache then.
    """
    if recipe.runtime.cache is None:
        raise RecipeError(
            "runtime.cache: this key is missing; set it with --set runtime.cache=FOLDER"
        )
    sets = prepared_sets(recipe)
    work = []
    for number, samples in enumerate(sets):
        work += [(number, index) for index in range(len(samples))]
    if not work:
        raise RecipeError(
            "runtime.cache: the recipe reads no files, so there is nothing to prepare"
        )
    _check_room(sets)
    problems: list[str] = []
    done = 0
    for count, found in in_processes(_decode, in_parts(work), jobs, _open_sets, (recipe,)):
        done += count
        problems += found
        on_progress(done, len(work))
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise DataError(f"{min(problems)}{more}; everything else is in the cache")
    if rare_stages(recipe):
        counted_source(recipe, jobs)
    return len(work)


def _check_room(sets: list[PreparedSet]) -> None:
    """Refuse to fill the disk."""
    cache = sets[0].loading.cache
    assert cache is not None
    needed = 0
    for samples in sets:
        if samples.size is None:
            continue  # unknown until they are read; the cache leaves room by itself
        width, height = samples.size
        # Labels at their own size are counted as if they were as large as the images.
        channels = 4 if samples.with_labels else 3
        needed += len(samples) * width * height * channels
    if needed > cache.free():
        raise DataError(
            f"runtime.cache: {cache.folder} would hold up to {needed / 2**30:.1f} GiB, but only"
            f" {cache.free() / 2**30:.1f} GiB may be written there; choose another folder with"
            " --set runtime.cache=FOLDER"
        )


def _open_sets(recipe: Recipe) -> None:
    # Each sample is read once, so nothing needs to stay in memory.
    runtime = recipe.runtime.model_copy(update={"memory_mb": 0})
    _sets[:] = prepared_sets(recipe.model_copy(update={"runtime": runtime}))


def _decode(part: Sequence[tuple[int, int]]) -> tuple[int, list[str]]:
    """How many samples are done, and what is wrong with files among them."""
    problems = []
    for number, index in part:
        try:
            _sets[number][index]
        except MuhdiError as error:
            problems.append(str(error))
    return len(part), problems
