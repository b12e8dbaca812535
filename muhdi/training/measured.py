"""Training that is watched with a clock: what one iteration costs."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from muhdi.data.stream import LoadedBatch
from muhdi.losses import Losses
from muhdi.recipe.schema import Recipe
from muhdi.run.environment import resident_mb
from muhdi.training.carried import Carried
from muhdi.training.sets import Sets
from muhdi.training.stage import StageTrainer


def now(device: torch.device) -> float:
    """Seconds on a steady clock, once the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def second_time(work: Callable[[], object], device: torch.device) -> float:
    """Do something twice: the seconds of the second time, since the first one warms up."""
    work()
    began = now(device)
    work()
    return now(device) - began


def forget_peak(device: torch.device) -> None:
    """Let `peak_mb` begin anew; the system does not forget that of a process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device: torch.device) -> int:
    """Peak memory in MiB: on a GPU since `forget_peak`, on a CPU of this process so far."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    return resident_mb()


class MeasuredTrainer(StageTrainer):
    """Trains like any other `StageTrainer`, from a stage's start, and notes when iterations end.

    Attributes:
        ends: when each iteration ended, by `now`.
        images: that the newest iteration has seen.
    """

    def __init__(
        self, fabric: Fabric, recipe: Recipe, number: int, carried: Carried, sets: Sets
    ) -> None:
        super().__init__(fabric, recipe, number, carried, sets)
        self.ends: list[float] = []
        self.images = 0

    def iterate(
        self, source: LoadedBatch | None, *others: LoadedBatch | None
    ) -> tuple[Losses, bool]:
        """As `StageTrainer.iterate`."""
        given = super().iterate(source, *others)
        self.ends.append(now(self.fabric.device))
        batches = [batch for batch in (source, *others) if batch is not None]
        self.images = sum(len(batch.names) for batch in batches)
        return given

    @property
    def seconds(self) -> float:
        """Of the newest iteration, with loading its images; 0 before there were two."""
        return self.ends[-1] - self.ends[-2] if len(self.ends) > 1 else 0.0
