"""Where the images of a stage come from, and the batches that are drawn from them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from muhdi.data.prepared import PreparedSet
from muhdi.data.rare_classes import RareClasses
from muhdi.data.stream import LoadedBatch, endless_batches
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StepConfig


@dataclass(frozen=True)
class Sets:
    """Training images of one stage.

    Attributes:
        source: labelled images of the source; None where there are none any more.
        targets: images of each new domain; none while training on the source alone.
        rare: the source's, drawn for classes; None: each is drawn once per epoch.
        labelled: the few target images whose labels take part; None: no label does.
    """

    source: PreparedSet | None
    targets: tuple[PreparedSet, ...] = ()
    rare: RareClasses | None = None
    labelled: PreparedSet | None = None

    @property
    def drawn(self) -> tuple[PreparedSet | None, ...]:
        """What an iteration draws a batch from each; None: nothing, while there is no target."""
        targets = self.targets or (None,)
        if self.labelled is None:
            return (self.source, *targets)
        return (self.source, *targets, self.labelled)

    @property
    def seen(self) -> tuple[PreparedSet, ...]:
        """The domains that there are, the source first."""
        return self.targets if self.source is None else (self.source, *self.targets)

    def batches(
        self, recipe: Recipe, number: int, start: int
    ) -> Iterator[Generator[LoadedBatch | None]]:
        """Endless batches of each of `drawn`, in their order.

        Args:
            recipe: of the run.
            number: of the stage.
            start: iteration with which they begin.
        """
        config = recipe.stages()[number].config
        drawn = self.rare or self.source
        if drawn is None:
            yield _no_batches()
        else:
            yield _stream(drawn, recipe, (number, 0, start), config.batch_size)
        size = config.target_images if isinstance(config, StepConfig) else config.batch_size
        if not self.targets:
            yield _no_batches()
        for place, target in enumerate(self.targets):
            # 0 is the source's role and 2 that of the few labels.
            role = 1 if not place else 2 + place
            yield _stream(target, recipe, (number, role, start), size)
        if self.labelled is not None:
            yield _stream(self.labelled, recipe, (number, 2, start), size)


def _stream(
    samples: PreparedSet | RareClasses, recipe: Recipe, place: tuple[int, int, int], size: int
) -> Generator[LoadedBatch]:
    """Batches of one set.

    Args:
        samples: the set.
        recipe: of the run.
        place: number of the stage, role of the set in it (each draws on its own), and iteration.
        size: images per batch.
    """
    number, role, start = place
    seed = (recipe.seed, number, role)
    workers = recipe.runtime.workers
    return endless_batches(samples, size, recipe.augment, seed, start, workers)


def _no_batches() -> Generator[None]:
    """What a stage draws from a set that it does not have."""
    while True:
        yield None
