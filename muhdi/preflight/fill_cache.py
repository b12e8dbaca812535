"""Filling the cache before training.

Every sample of a recipe, decoded and resized by several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.errors import MuhdiError
from muhdi.preflight.pool import in_parts, in_processes
from muhdi.recipe.schema import Recipe

_sets: list[PreparedSet] = []  # of a worker process


def prepared_sets(recipe: Recipe) -> list[PreparedSet]:
    """Every set that a run of the recipe reads and a cache can help.

    Evaluation, source and targets.
    """
    domains = Domains(recipe, training=recipe.source is not None)
    sets = list(domains.validation.values())
    if domains.source is not None:
        sets += [domains.source, *dict.fromkeys(domains.targets)]
    return [samples for samples in sets if samples.images.key(0, samples.with_labels) is not None]


def prepare(
    recipe: Recipe,
    jobs: int | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Put every sample of a recipe into its cache; those that are there stay.

    Args:
        recipe: with ``cache``.
        jobs: processes; None: one per core.
        told: called with the number of samples that are done, and of all.

    Returns:
        The number of samples.

    Raises:
        MuhdiError: the recipe names no cache, the disk has no room, or files cannot be read; all
            others are done.
    """
    if recipe.runtime.cache is None:
        raise MuhdiError("cache: this key is missing; say where, with --set cache=FOLDER")
    sets = prepared_sets(recipe)
    work = [(number, index) for number, samples in enumerate(sets) for index in range(len(samples))]
    if not work:
        raise MuhdiError("cache: the recipe reads no files, so there is nothing to prepare")
    _check_room(sets)
    problems: list[str] = []
    done = 0
    for count, found in in_processes(_decode, in_parts(work), jobs, _open_sets, (recipe,)):
        done, problems = done + count, problems + found
        told(done, len(work))
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise MuhdiError(f"{min(problems)}{more}; everything else is in the cache")
    return len(work)


def _check_room(sets: list[PreparedSet]) -> None:
    """Refuse to fill the disk; labels at their own size are taken for as large as the images."""
    cache = sets[0].cache
    assert cache is not None
    needed = sum(len(s) * s.size[0] * s.size[1] * (4 if s.with_labels else 3) for s in sets)
    if needed > cache.free():
        raise MuhdiError(
            f"cache: {cache.folder} would hold up to {needed / 2**30:.1f} GiB, but only"
            f" {cache.free() / 2**30:.1f} GiB may be written there; choose another folder with"
            " --set cache=FOLDER"
        )


def _open_sets(recipe: Recipe) -> None:
    _sets[:] = prepared_sets(recipe)
    for samples in _sets:
        samples.memory = 0


def _decode(part: Sequence[tuple[int, int]]) -> tuple[int, list[str]]:
    """How many samples are done, and what is wrong with files among them."""
    problems = []
    for number, index in part:
        try:
            _sets[number][index]
        except MuhdiError as error:
            problems.append(str(error))
    return len(part), problems
