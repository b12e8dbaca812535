"""Writing the domains of a recipe as shards, with several processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from muhdi.data.cache import RESERVE
from muhdi.data.files import FileSet
from muhdi.data.sets import Size
from muhdi.data.shards.chunk import MOST_BYTES, pack_item, pack_shard
from muhdi.data.shards.index import INDEX, Shard, SplitIndex, read_index
from muhdi.errors import DataError, MuhdiError
from muhdi.files import check_folder_target, sha256_of
from muhdi.preflight.pool import in_processes
from muhdi.preflight.shard_plan import SplitPlan, planned
from muhdi.recipe.schema import Recipe

# What a worker process works on; set once when it starts.
_plans: list[SplitPlan] = []

Place = tuple[int, int]
"""Number of a split's plan, and of a shard in it."""


@dataclass(frozen=True)
class _Written:
    """A shard: what a worker process reports.

    Attributes:
        place: which one.
        shard: None: nothing was written, because of the problems.
        sizes: width and height of its images.
        problems: a line for every image that cannot be read.
    """

    place: Place
    shard: Shard | None
    sizes: list[Size]
    problems: list[str]


@dataclass(frozen=True)
class WrittenSplit:
    """A split that lies in shards.

    Attributes:
        domain: its name.
        split: ``train`` or ``val``.
        images: how many.
        shards: how many.
        labelled: whether with labels.
        address: folder or address of them.
        new: False: they were there already.
    """

    domain: str
    split: str
    images: int
    shards: int
    labelled: bool
    address: str
    new: bool


def write_shards(
    recipe: Recipe,
    out: str,
    *,
    decoded: bool = False,
    shard_mb: int = 64,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[WrittenSplit]:
    """Write every domain of a recipe as shards, which ``dataset: shards`` reads.

    A split's index is written last, so that what was interrupted does not look finished. Called
    again it goes on: shards that are there already stay.

    Args:
        recipe: whose domains they are.
        out: folder, or an address that fsspec knows.
        decoded: keep pixels at the recipe's size instead of images as they are.
        shard_mb: about as many MiB are in a shard.
        jobs: number of processes; None: one per core; 1: this one.
        on_progress: called with the number of images that are done, and of all.

    Raises:
        DataError: an image cannot be read, other shards lie there, or the disk has no room.
        MuhdiError: the folder or address cannot be written.
    """
    plans = planned(recipe, out, decoded=decoded, shard_mb=shard_mb)
    missing = [plan for plan in plans if not _is_finished(plan)]
    if plans[0].storage.folder is not None:
        check_folder_target(Path(out))
        _check_room(Path(out), missing)
    work = [(number, shard) for number, plan in enumerate(missing) for shard in range(plan.shards)]
    total = sum(len(plan.names) for plan in missing)
    found: dict[Place, _Written] = {}
    problems: list[str] = []
    done = 0
    for written in _results(missing, work, jobs):
        found[written.place] = written
        problems += written.problems
        done += _count(missing, written.place)
        on_progress(done, total)
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise DataError(f"{min(problems)}{more}; shards without a fault are kept for the next time")
    for number, plan in enumerate(missing):
        _finish(plan, [found[number, shard] for shard in range(plan.shards)])
    new = {id(plan) for plan in missing}
    return [
        WrittenSplit(
            domain=plan.domain,
            split=plan.split,
            images=len(plan.names),
            shards=plan.shards,
            labelled=plan.samples.with_labels,
            address=str(plan.storage),
            new=id(plan) in new,
        )
        for plan in plans
    ]


def _results(plans: list[SplitPlan], work: list[Place], jobs: int | None) -> Iterator[_Written]:
    if jobs == 1:
        _take(plans)
        yield from map(_write, work)
    else:
        yield from in_processes(_write, work, jobs, _take, (plans,))


def _count(plans: list[SplitPlan], place: Place) -> int:
    number, shard = place
    starts = plans[number].starts
    return starts[shard + 1] - starts[shard]


def _is_finished(plan: SplitPlan) -> bool:
    """Whether a split lies there already.

    Raises:
        DataError: another one does.
    """
    index = read_index(plan.storage)
    if index is None:
        return False
    if index.plan != plan.digest:
        raise DataError(
            f"{plan.storage}: holds shards of other images, sizes or classes; delete them, or"
            " choose another folder"
        )
    return True


def _check_room(folder: Path, plans: list[SplitPlan]) -> None:
    """Refuse to fill the disk."""
    needed = sum(plan.bytes for plan in plans)
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free - RESERVE
    if needed > free:
        raise DataError(
            f"{folder}: would hold about {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB"
            " may be written there; choose another folder"
        )


def _take(plans: list[SplitPlan]) -> None:
    _plans[:] = plans


def _write(place: Place) -> _Written:
    """Write a shard, unless it is there."""
    number, shard = place
    plan = _plans[number]
    known = _noted(plan, shard)
    if known is not None:
        return _Written(place, *known, [])
    items: list[bytes] = []
    sizes: list[Size] = []
    problems: list[str] = []
    for index in range(plan.starts[shard], plan.starts[shard + 1]):
        try:
            item, size = _item(plan, index)
        except MuhdiError as error:
            problems.append(str(error))
            continue
        items.append(item)
        sizes.append(size)
    if problems:
        return _Written(place, None, [], problems)
    data = pack_shard(items)
    written = Shard(_file(shard), len(items), len(data), sha256_of(data))
    plan.storage.write(written.filename, data)
    note = {"plan": plan.digest, "shard": asdict(written), "sizes": sizes}
    plan.storage.write(_note(shard), json.dumps(note).encode())
    return _Written(place, written, sizes, [])


def _item(plan: SplitPlan, index: int) -> tuple[bytes, Size]:
    """An image as a shard holds it, and its width and height."""
    images = plan.samples.images
    sample = replace(plan.samples[index], name=plan.names[index])
    contents = None
    if plan.decoding is None and isinstance(images, FileSet):
        contents = images.images[index].read_bytes()
    item = pack_item(sample, contents, decoded=plan.decoding is not None)
    if len(item) > MOST_BYTES // 2:
        raise DataError(f"{images.name(index)}: is too large for a shard")
    return item, (sample.image.shape[1], sample.image.shape[0])


def _file(shard: int) -> str:
    return f"chunk-0-{shard}.bin"


def _note(shard: int) -> str:
    """What says, until the index does, that a shard is whole."""
    return f"chunk-0-{shard}.json"


def _noted(plan: SplitPlan, shard: int) -> tuple[Shard, list[Size]] | None:
    """A shard that was written before, and the sizes of its images; None if it was not."""
    data = plan.storage.read(_note(shard))
    if data is None:
        return None
    try:
        note: dict[str, Any] = json.loads(data)
        found = Shard(**note["shard"])
        sizes = [(width, height) for width, height in note["sizes"]]
    except (ValueError, KeyError, TypeError):
        return None
    whole = plan.storage.size(found.filename) == found.chunk_bytes
    return (found, sizes) if whole and note["plan"] == plan.digest else None


def _finish(plan: SplitPlan, parts: Sequence[_Written]) -> None:
    """Write the index of a split, once all of its shards are there.

    Raises:
        MuhdiError: one is not.
    """
    shards = [part.shard for part in parts if part.shard is not None]
    for shard in shards:
        if plan.storage.size(shard.filename) != shard.chunk_bytes:
            raise MuhdiError(
                f"{plan.storage}/{shard.filename}: is not there any more; does every process write"
                " to the same place? (of memory:// only with --jobs 1)"
            )
    sizes = [size for part in parts for size in part.sizes]
    index = SplitIndex(
        shards=tuple(shards),
        decoding=plan.decoding,
        classes=plan.classes,
        labelled=plan.samples.with_labels,
        fit=plan.samples.images.fit,
        names=tuple(plan.names),
        sizes=tuple(sizes[:1] if len(set(sizes)) == 1 else sizes),
        plan=plan.digest,
    )
    plan.storage.write(INDEX, index.to_json().encode())
    for number in range(len(shards)):
        with suppress(MuhdiError):  # nobody reads it any more
            plan.storage.remove(_note(number))
