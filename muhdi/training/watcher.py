"""Who looks on while a stage trains, and what is due then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from muhdi.data.stream import LoadedBatch
from muhdi.recipe.schema import Recipe
from muhdi.run.log import RunLog


class Event(Enum):
    """What is due between two iterations."""

    SAVE = auto()
    """Write a training state: every ``save_every`` iterations, and before a stage is left early."""
    SNAPSHOT = auto()
    """Write the network: every ``snapshot_every`` iterations but the last."""
    EVALUATE = auto()
    """Score the network: every `evaluation.every` iterations of a step but the last."""


def due(recipe: Recipe, stage: int, iteration: int) -> Iterator[Event]:
    """What a recipe asks for after an iteration that is not the last of its stage.

    Args:
        recipe: of the run.
        stage: its number; the training on the source, 0, is not evaluated within.
        iteration: of the stage, from 1.
    """
    keep = recipe.snapshot_every
    score = recipe.evaluation.every
    if keep and iteration % keep == 0:
        yield Event.SNAPSHOT
    if stage and score and iteration % score == 0:
        yield Event.EVALUATE


@dataclass(frozen=True)
class Watcher:
    """Who looks on while a stage trains.

    Attributes:
        log: numbers and lines for the user.
        on_batch: called with the name of a domain and every batch of it.
        signals: received so far; once there is one, the stage is saved and left.
    """

    log: RunLog
    on_batch: Callable[[str, LoadedBatch], None]
    signals: list[int]
