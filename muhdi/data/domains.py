"""The domains of a sequence, opened: every split is found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from muhdi.data.cache import SampleCache
from muhdi.data.catalog import DataContext, open_split
from muhdi.data.few_labels import labelled_note, open_labelled
from muhdi.data.paths import expand
from muhdi.data.prepared import Loading, PreparedSet
from muhdi.data.sets import ImageSet, Size
from muhdi.data.shards.shard_set import check_decoding
from muhdi.errors import DataError, MuhdiError
from muhdi.recipe.domains import DomainConfig
from muhdi.recipe.evaluation import check_scales, smallest_side
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StepConfig

_MB = 2**20


class Domains:
    """Image sets of a recipe.

    Attributes:
        validation: images by domain, the source's first; with labels where the domain has them.
        source: labelled training images of the source; None without ``training``, and where no
            stage learns from them.
        targets: training images of each target, by step; their labels are opened only for an
            adaptation that says it reads them. Empty without ``training``.
        labelled: by step, the few target images whose labels take part; None: no label does. Empty
            without ``training``.
        notes: what the user should know.

    Args:
        recipe: of the run.
        training: whether `source` and `targets` are wanted.
        only: names of the domains that are wanted; none: all.

    Raises:
        MuhdiError: a root, file or label that is needed is missing, or a scale of the evaluation
            makes an image too small.
    """

    def __init__(self, recipe: Recipe, *, training: bool = True, only: Sequence[str] = ()) -> None:
        self._context = DataContext.of(recipe)
        self._recipe = recipe
        self._configs = {
            data.domain_name: (key, data)
            for key, data in recipe.domains()
            if not only or data.domain_name in only
        }
        self._memory = recipe.runtime.memory_mb * _MB // (2 * len(self._configs))
        self.cache = cache_of(recipe)
        self.validation: dict[str, PreparedSet] = {}
        self.source: PreparedSet | None = None
        self.targets: list[tuple[PreparedSet, ...]] = []
        self.labelled: list[PreparedSet | None] = []
        self.notes: list[str] = []
        for name, (key, data) in self._configs.items():
            images = self._open(key, data, "val", labels=True)
            self.validation[name] = self._prepare(
                images,
                recipe.evaluated_size(data),
                recipe.evaluation.size,
                with_labels=images.labelled,
            )
            _check_scales(self.validation[name], recipe.evaluation.scales)
        if training:
            self._open_training(recipe)

    def unlabelled(self) -> Iterator[PreparedSet]:
        """Training images of every domain, extra ones too, without labels."""
        for key, data in self._configs.values():
            images = self._open(key, data, "train", labels=False)
            yield self._prepare(images, self._recipe.size_of(data), None, with_labels=False)

    def _open(self, key: str, data: DomainConfig, split: str, *, labels: bool) -> ImageSet:
        return _opened(key, data, split, self._context, labels=labels)

    def _open_training(self, recipe: Recipe) -> None:
        if recipe.source is not None and recipe.trains_on_source:
            size = recipe.size_of(recipe.source)
            source = open_source(recipe.source, self._context)
            self.source = self._prepare(source, size, size, with_labels=True)
            self._note_if_shared(source)
        known: dict[tuple[str, bool], PreparedSet] = {}
        for number, step in enumerate(recipe.steps):
            targets: list[PreparedSet] = []
            for place, target in step.keyed_domains(f"steps.{number}"):
                key = (target.domain_name, step.adaptation.reads_target_labels)
                if key not in known:
                    known[key] = self._open_target(number, step, place, target)
                targets.append(known[key])
            self.targets.append(tuple(targets))
            self.labelled.append(self._open_labelled(number, step))

    def _open_target(
        self, number: int, step: StepConfig, key: str, target: DomainConfig
    ) -> PreparedSet:
        labels = step.adaptation.reads_target_labels
        images = self._open(key, target, "train", labels=labels)
        if labels and not images.labelled:
            raise DataError(
                f"steps.{number}.adaptation: {step.adaptation.key} needs labels, but "
                f"{images.domain!r} has none for train; {images.advice}"
            )
        self._note_if_shared(images)
        size = self._recipe.size_of(target)
        return self._prepare(images, size, size, with_labels=labels)

    def _open_labelled(self, number: int, step: StepConfig) -> PreparedSet | None:
        if step.labelled is None:
            return None
        images = open_labelled(number, step, self._context, self._recipe.runtime.root)
        (target,) = self.targets[number]
        self.notes += [labelled_note(images, len(target)), *self._scored_too(images)]
        # A target that comes back may have the same labels.
        self.notes = list(dict.fromkeys(self.notes))
        (config,) = step.domains
        size = self._recipe.size_of(config)
        return self._prepare(images, size, size, with_labels=True)

    def _scored_too(self, images: ImageSet) -> Iterator[str]:
        """Says that images whose labels are trained on are scored, if some are."""
        scored = self.validation[images.domain].images
        shared = len(_files(images) & _files(scored))
        if shared and scored.labelled:
            yield (
                f"warning: {images.domain}: {shared} of the {len(images)} images whose labels take"
                " part are scored, too; its score is too good"
            )

    def _note_if_shared(self, images: ImageSet) -> None:
        training = _files(images)
        validation = _files(self.validation[images.domain].images)
        shared = len(training & validation)
        if training and training == validation:
            self.notes.append(f"{images.domain}: the same images serve for training and evaluation")
        elif shared:
            self.notes.append(
                f"{images.domain}: {shared} of its evaluation's images serve for training too"
            )

    def _prepare(
        self, images: ImageSet, size: Size | None, label_size: Size | None, *, with_labels: bool
    ) -> PreparedSet:
        check_decoding(images, size, label_size if with_labels else None, self._recipe.draft)
        return PreparedSet(
            images,
            size,
            label_size,
            with_labels=with_labels,
            loading=Loading(self._memory, self.cache, self._recipe.draft, self._recipe.channels),
        )


def _files(images: ImageSet) -> set[Path]:
    """The image files of a set; none where its images are not files."""
    return set(getattr(images, "images", ()))


def cache_of(recipe: Recipe) -> SampleCache | None:
    """The recipe's cache on the disk; None without one."""
    if recipe.runtime.cache is None:
        return None
    return SampleCache(Path(expand(recipe.runtime.cache, "runtime.cache")))


def open_source(source: DomainConfig, context: DataContext) -> ImageSet:
    """The source's training images, with their labels.

    Raises:
        DataError: it cannot be opened, or has no labels.
    """
    images = _opened("source", source, "train", context, labels=True)
    if not images.labelled:
        raise DataError(f"source: the source needs labels to train on; {images.advice}")
    return images


def _opened(
    key: str, data: DomainConfig, split: str, context: DataContext, *, labels: bool
) -> ImageSet:
    try:
        return open_split(data, split, context, labels=labels)
    except MuhdiError as error:
        raise DataError(f"{key}: {error}") from None


def _check_scales(samples: PreparedSet, scales: Sequence[float]) -> None:
    """Refuse images of which a scale leaves too little, as far as their sizes are known unread.

    Sizes that a recipe gives are checked with it.
    """
    if samples.size is not None or smallest_side(scales) == 1:
        return
    for index in range(len(samples)):
        size = samples.images.stored_size(index)
        if size is not None:
            check_scales(samples.images.name(index), size, scales)
