"""The domains of a sequence, opened: every split is found before anything is trained."""

from __future__ import annotations

from collections import Counter

from muhdi.config import OracleConfig, Recipe
from muhdi.data.catalog import Context, open_split
from muhdi.data.dataset import ImageSet, PreparedSet
from muhdi.errors import MuhdiError

_MB = 2**20


class Domains:
    """Image sets of a recipe.

    Attributes:
        names: of the source and the targets, each once.
        source: labelled training images of the source.
        targets: training images by step; their labels are opened for the oracle alone.
        validation: by domain; with labels where the domain has them.

    Raises:
        MuhdiError: a root, file or label that is needed is missing.
    """

    def __init__(self, recipe: Recipe, *, training: bool = True) -> None:
        context = Context(recipe.class_set(), recipe.image_size, recipe.root, recipe.seed)
        configs = {data.domain_name: (key, data) for key, data in recipe.domains()}
        self.names = list(configs)
        self.memory = recipe.loader.memory_mb * _MB // (2 * len(configs))
        self.size = recipe.image_size
        self.validation: dict[str, PreparedSet] = {}
        self.notes: list[str] = []
        for name, (key, data) in configs.items():
            images = self._open(key, data, "val", context)
            self.validation[name] = PreparedSet(
                images, self.size, recipe.evaluation.size, with_labels=images.labelled, memory=self.memory
            )
        if training:
            self._open_training(recipe, context)

    @staticmethod
    def _open(key: str, data: object, split: str, context: Context) -> ImageSet:
        try:
            return open_split(data, split, context)  # type: ignore[arg-type]
        except MuhdiError as error:
            raise MuhdiError(f"{key}: {error}") from None

    def _open_training(self, recipe: Recipe, context: Context) -> None:
        source = self._open("source", recipe.source, "train", context)
        if not source.labelled:
            raise MuhdiError("source: the source needs labels to train on; set 'labels' to where they are")
        self.source = self._prepare(source, with_labels=True)
        self.targets: list[PreparedSet] = []
        known: dict[tuple[str, bool], PreparedSet] = {}
        for number, step in enumerate(recipe.steps):
            key = f"steps.{number}"
            labels = isinstance(step.adaptation, OracleConfig)
            images = self._open(f"{key}.target", step.target, "train", context)
            if labels and not images.labelled:
                raise MuhdiError(
                    f"{key}.adaptation: the oracle trains on labels, but {images.domain!r} has none for train"
                )
            name = (images.domain, labels)
            known.setdefault(name, self._prepare(images, with_labels=labels))
            self.targets.append(known[name])
            same = getattr(images, "images", None)
            if same is not None and same == getattr(self.validation[images.domain].images, "images", None):
                self.notes.append(f"{images.domain}: the same images serve for training and evaluation")

    def _prepare(self, images: ImageSet, *, with_labels: bool) -> PreparedSet:
        return PreparedSet(images, self.size, self.size, with_labels=with_labels, memory=self.memory)


class UnlistedIds:
    """Counts raw ids that a label table does not list, and reports each domain once."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, dict[int, int]]] = {}
        self._reported: set[str] = set()

    def add(self, domain: str, name: str, counts: dict[int, int]) -> None:
        """``counts`` pixels by raw id were met in the label of the image ``name``."""
        if counts:
            self._files.setdefault(domain, {})[name] = counts

    def report(self) -> list[str]:
        """A line for every domain that was not reported before."""
        lines = []
        for domain in sorted(self._files.keys() - self._reported):
            self._reported.add(domain)
            files = self._files[domain]
            total: Counter[int] = Counter()
            for counts in files.values():
                total.update(counts)
            ids = ", ".join(f"{raw} ({pixels:,} pixels)" for raw, pixels in sorted(total.items())[:8])
            more = f" and {len(total) - 8} more" if len(total) > 8 else ""
            lines.append(
                f"{domain}: raw ids that 'ids' does not list are ignored: {ids}{more}, in {len(files)} files so far, "
                f"{min(files)} for one"
            )
        return lines
