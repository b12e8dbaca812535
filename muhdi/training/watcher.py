"""Who looks on while a stage trains, and what is due then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from muhdi.data.stream import LoadedBatch
from muhdi.run.log import RunLog


class Event(Enum):
    """What is due between two iterations."""

    SAVE = auto()
    """Write a training state: every ``save_every`` iterations, and before a stage is left early."""
    SNAPSHOT = auto()
    """Write the network: every ``snapshot_every`` iterations but the last."""


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
