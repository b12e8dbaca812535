"""How networks are scored, and which of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from muhdi.recipe.section import NotNegative, Positive, Section, Size, Weight

StatisticsChoice = Literal["running", "domain", "image", "blend", "pooled"]
"""Whose mean and variance batch norms use at evaluation, see `muhdi.models.statistics`."""
STATISTICS: tuple[StatisticsChoice, ...] = get_args(StatisticsChoice)
DefaultStatistics = Literal["running", "image", "blend", "pooled"]
"""Those that need no domain's name."""


def _native(size: Any) -> Any:
    return None if size == "native" else size


class EvaluationConfig(Section):
    """How networks are scored."""

    statistics: Annotated[list[StatisticsChoice], Field(min_length=1)] = [
        "running",
        "domain",
        "image",
    ]
    """Whose normalisation statistics are used; each gives a table of its own."""
    default: DefaultStatistics = "running"
    """The one that is shown first, and that the network's file names for `muhdi predict` and
    `export`; one of `statistics`."""
    batch_size: Positive = 8
    """Images that go through the network together."""
    size: Annotated[Size | None, BeforeValidator(_native)] = None
    """Width and height at which predictions are scored; `native`: each label's own size."""
    input_size: Size | None = None
    """Width and height of the images that are scored; none: those of the training images."""
    mean_over: list[str] = []
    """The classes whose mean is reported as mIoU, `[road, sky, car]` for example; none: all. A
    class that no label of a domain holds is left out of that domain's mean in any case."""
    domain_images: Positive = 64
    """Training images from which a domain's statistics are measured."""
    samples: NotNegative = 4
    """Predictions per domain that are kept as images after the last step."""

    @model_validator(mode="after")
    def _default_is_scored(self) -> EvaluationConfig:
        if "default" in self.model_fields_set and self.default not in self.statistics:
            raise ValueError(f"default: {self.default} is not in 'statistics'; add it there")
        return self


class TestConfig(Section):
    """Which networks ``muhdi evaluate RECIPE`` scores, and on what."""

    __test__ = False  # no test for pytest

    mode: Literal["last", "best"] = "last"
    """The run's `last` network, or the `best` of its snapshots by the validation labels."""
    models: list[str] = []
    """Network files; several are an ensemble, whose logits are added. None: the run's own."""
    weights: list[Weight] = []
    """Factor of each of the `models`."""
    every: Positive | None = None
    """Only snapshots whose iterations are a multiple of this."""
    until: Positive | None = None
    """Only snapshots of at most so many iterations."""
    snapshots: str | None = None
    """Folder of the snapshots, where it is not the run's."""
    domains: list[str] = []
    """Names of the domains that are scored; none: all targets and extra domains."""
