"""Which splits of a recipe go into shards, and which images into which shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import PIL

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.few_labels import short_names
from muhdi.data.files import FileSet
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import ImageSet, Size
from muhdi.data.shards.index import VERSION, Decoding
from muhdi.data.shards.opening import check_plain
from muhdi.data.shards.storage import Storage
from muhdi.errors import DataError, MuhdiError
from muhdi.files import file_name
from muhdi.recipe.domains import DomainConfig, ShardsConfig
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import Section

_MB = 2**20


@dataclass(frozen=True)
class SplitPlan:
    """One split on its way into shards.

    Attributes:
        domain: its name.
        split: ``train`` or ``val``.
        samples: what is written.
        storage: where to.
        names: of the images, without the folders that all of them share.
        starts: index of each shard's first image, and at last the number of images.
        decoding: how images are decoded; None: they are kept as files.
        classes: whose positions labels hold.
        digest: of all that the shards depend on.
        bytes: about as many are written.
    """

    domain: str
    split: str
    samples: PreparedSet
    storage: Storage
    names: list[str]
    starts: list[int]
    decoding: Decoding | None
    classes: tuple[str, ...]
    digest: str
    bytes: int

    @property
    def shards(self) -> int:
        """How many there will be."""
        return len(self.starts) - 1


@dataclass(frozen=True)
class _Split:
    """A split that was opened.

    Attributes:
        name: ``train`` or ``val``.
        images: of it.
        labels: whether its labels are written.
    """

    name: str
    images: ImageSet
    labels: bool


def planned(recipe: Recipe, out: str, *, decoded: bool, shard_mb: int) -> list[SplitPlan]:
    """Every split that a run of the recipe reads.

    Labels are taken where a run reads them: of the source, of every evaluation, and of a target
    only for a step that learns from its labels.

    Args:
        recipe: whose domains they are.
        out: folder or address, below which each domain has a folder.
        decoded: whether images are kept as pixels.
        shard_mb: about as many MiB are in a shard.

    Raises:
        MuhdiError: a domain cannot be opened, or lacks labels that are learned from, or images have
            more than colours.
    """
    check_plain(DataContext.of(recipe).channels)
    plans: list[SplitPlan] = []
    known: set[str] = set()
    for key, data in recipe.domains():
        name = data.domain_name
        if name in known:
            continue
        known.add(name)
        for found in _opened(recipe, key, data):
            storage = Storage(out).below(file_name(name)).below(found.name)
            decoding = _decoding(recipe, data, found) if decoded else None
            plans.append(_plan(recipe, found, storage, decoding, shard_mb * _MB))
    return plans


def _decoding(recipe: Recipe, data: DomainConfig, found: _Split) -> Decoding:
    """How a run decodes a split."""
    size: Size | None = recipe.size_of(data)
    label_size = size
    if found.name == "val":
        size = recipe.evaluated_size(data)
        label_size = recipe.evaluation.size
    return Decoding(size, label_size if found.labels else None, recipe.draft)


def _opened(recipe: Recipe, key: str, data: DomainConfig) -> Iterator[_Split]:
    """The splits of a domain."""
    context = DataContext.of(recipe)
    trained = {name for name, _ in recipe.training_domains()}
    of_source = key == "source" and recipe.trains_on_source
    learned = of_source or data.domain_name in _labelled_targets(recipe)
    try:
        if key in trained:
            images = open_split(data, "train", context, labels=learned)
            if learned and not images.labelled:
                raise DataError(f"{images.domain!r} has no labels for train; {images.advice}")
            yield _Split("train", images, learned)
        else:
            with suppress(MuhdiError):  # one that is only scored need not have any
                yield _Split("train", open_split(data, "train", context, labels=False), False)
        images = open_split(data, "val", context, labels=True)
        yield _Split("val", images, images.labelled)
    except MuhdiError as error:
        raise DataError(f"{key}: {error}") from None


def _labelled_targets(recipe: Recipe) -> set[str]:
    """Names of the targets whose training labels a step learns from."""
    found: set[str] = set()
    for step in recipe.steps:
        if step.labelled is not None or step.adaptation.reads_target_labels:
            found.update(step.domain_names)
    return found


def _plan(
    recipe: Recipe, found: _Split, storage: Storage, decoding: Decoding | None, target: int
) -> SplitPlan:
    images = found.images
    labels = found.labels
    size = None if decoding is None else decoding.size
    label_size = None if decoding is None else decoding.label_size
    loading = Loading(draft=decoding is not None and decoding.draft)
    samples = PreparedSet(images, size, label_size, with_labels=labels, loading=loading)
    costs = [_cost(samples, index, recipe.image_size, decoding) for index in range(len(images))]
    starts = _starts(costs, target)
    classes = tuple(recipe.class_set().classes)
    facts: list[Any] = [VERSION, PIL.__version__, images.domain, images.fingerprint()]
    facts += [None if decoding is None else asdict(decoding), labels, classes, starts]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return SplitPlan(
        domain=images.domain,
        split=found.name,
        samples=samples,
        storage=storage,
        names=short_names(images),
        starts=starts,
        decoding=decoding,
        classes=classes,
        digest=digest,
        bytes=sum(costs),
    )


def _cost(samples: PreparedSet, index: int, usual: Size, decoding: Decoding | None) -> int:
    """About how many bytes an image takes."""
    images = samples.images
    if decoding is None and isinstance(images, FileSet):
        files = [images.images[index]]
        if samples.with_labels and images.labels is not None:
            files += images.labels.files(index)
        with suppress(OSError):  # reading it will report it
            return sum(path.stat().st_size for path in files)
        return 0
    width, height = samples.size or images.stored_size(index) or usual
    channels = 4 if samples.with_labels else 3
    return width * height * channels


def _starts(costs: list[int], target: int) -> list[int]:
    """Where shards begin, so that none but a single image exceeds the target."""
    starts = [0]
    filled = 0
    for index, cost in enumerate(costs):
        if filled and filled + cost > target:
            starts.append(index)
            filled = 0
        filled += cost
    return [*starts, len(costs)]


def recipe_of_shards(recipe: Recipe, root: str) -> Recipe:
    """The same recipe with its domains in shards.

    Args:
        recipe: what was written.
        root: where to.
    """
    base = Storage(root)
    if base.folder is not None:
        base = Storage(str(base.folder.absolute()))

    def replaced(value: Any) -> Any:
        if isinstance(value, DomainConfig):
            name = value.domain_name
            place = str(base.below(file_name(name)))
            size = value.image_size
            return ShardsConfig(dataset="shards", root=place, name=name, image_size=size)
        if isinstance(value, Section):
            fields = {field: replaced(getattr(value, field)) for field in value.model_fields_set}
            return value.model_copy(update=fields)
        if isinstance(value, list):
            return [replaced(one) for one in value]
        return value

    return replaced(recipe)  # type: ignore[no-any-return]
