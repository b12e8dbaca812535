"""Images of a stage for methods to look at, before its first and after its last iteration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from muhdi import distributed
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import spread_indices
from muhdi.data.stream import collate
from muhdi.passes import Batch


class StageBatches:
    """The `muhdi.method.Batches` of a stage: single images, evenly spread, not augmented.

    Args:
        source: labelled images; None where there are none any more.
        targets: images of each new domain; none in a stage without a target.
        device: where the batches go.
    """

    def __init__(
        self, source: PreparedSet | None, targets: Sequence[PreparedSet], device: torch.device
    ) -> None:
        self._source = source
        self._targets = targets
        self._device = device

    def source(self, count: int) -> Iterator[Batch]:
        """Up to ``count`` labelled source images; each process yields its own share."""
        if self._source is not None:
            yield from self._some(self._source, count)

    def target(self, count: int) -> Iterator[Batch]:
        """Up to ``count`` images of each target, without labels; each process yields its share."""
        for place, target in enumerate(self._targets):
            for batch in self._some(target, count):
                yield replace(batch, target=place)

    def _some(self, samples: PreparedSet, count: int) -> Iterator[Batch]:
        indices = spread_indices(len(samples), count)
        for index in indices[distributed.rank() :: distributed.world_size()]:
            batch = collate([samples[index]]).to(self._device)
            yield Batch(batch.images, batch.labels, windows=batch.windows)


class NoBatches:
    """Nothing to look at: a stage that continues takes everything from its saved state."""

    def source(self, count: int) -> Iterator[Batch]:
        """No image."""
        return iter(())

    def target(self, count: int) -> Iterator[Batch]:
        """No image."""
        return iter(())
