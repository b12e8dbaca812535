"""What a recipe costs: time and memory of its stages, as a dry run has measured them. No torch."""

from __future__ import annotations

from dataclasses import dataclass

LONG = 2 * 3600
"""Seconds of a whole recipe from which on the user is warned."""


@dataclass(frozen=True)
class StageCost:
    """What one stage costs.

    Attributes:
        name: of the stage.
        iterations: that the recipe asks for.
        seconds: of one iteration; 0 in a stage without any.
        images: that one iteration sees, of source and target together.
        memory_mb: peak in MiB up to the end of the iterations: of the stage on a GPU, of the whole
            process so far on a CPU.
        scoring: seconds of measuring the statistics of its domains, and of the evaluations within
            and after it.
    """

    name: str
    iterations: int
    seconds: float
    images: int
    memory_mb: int
    scoring: float

    @property
    def training(self) -> float:
        """Seconds of all iterations."""
        return self.iterations * self.seconds

    @property
    def images_per_second(self) -> float | None:
        """How fast it trains; None in a stage without iterations."""
        return self.images / self.seconds if self.seconds else None


@dataclass(frozen=True)
class DryRun:
    """What a recipe costs, by a trial of every stage.

    Attributes:
        recipe: its name.
        device: where it was measured, such as ``cpu``.
        threads: of PyTorch, which matter on a CPU.
        stages: a `StageCost` each, with ``name``, ``iterations``, ``seconds`` of one iteration,
            ``images`` of one iteration, ``memory_mb``, and the seconds of all of its ``training``
            and ``scoring``.
        notes: what the user should know of recipe, data and measurement.
    """

    recipe: str
    device: str
    threads: int
    stages: tuple[StageCost, ...]
    notes: tuple[str, ...] = ()

    @property
    def training(self) -> float:
        """Estimated seconds of all iterations."""
        return sum(stage.training for stage in self.stages)

    @property
    def scoring(self) -> float:
        """Estimated seconds of all measuring of statistics and of all evaluations."""
        return sum(stage.scoring for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Estimated seconds of the whole recipe."""
        return self.training + self.scoring

    @property
    def is_long(self) -> bool:
        """Whether the recipe takes hours."""
        return self.seconds > LONG
