"""How networks are scored, and which of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from muhdi.errors import DataError, RecipeError, nearest
from muhdi.recipe.section import NotNegative, Positive, Section, Size, Weight

SMALLEST = 16
"""Pixels of the smallest side of what a network is shown by windows, or at another scale."""
OVERLAP = 0.25
"""Of neighbouring windows, where nothing else is said."""
MAX_OVERLAP = 0.95
"""Below this: the number of windows grows as 1 / (1 - overlap) squared."""
MAX_SCALE = 10.0
"""An image may be enlarged by this much."""

WindowSide = Annotated[int, Field(ge=SMALLEST, le=32768)]
Overlap = Annotated[float, Field(ge=0.0, lt=MAX_OVERLAP)]
Scale = Annotated[float, Field(gt=0.0, le=MAX_SCALE, allow_inf_nan=False)]

StatisticsChoice = Literal["running", "domain", "image", "blend", "pooled"]
"""Whose mean and variance batch norms use at evaluation, see `muhdi.models.statistics`."""
STATISTICS: tuple[StatisticsChoice, ...] = get_args(StatisticsChoice)
DefaultStatistics = Literal["running", "image", "blend", "pooled"]
"""Those that need no domain's name."""

AGREEMENTS = ("mirror_agreement", "previous_agreement")
"""Scores without labels that `EvaluationConfig.agreement` decides on."""

WeightsChoice = Literal["model", "ema", "teacher"]
"""Which weights a network is used with."""
WEIGHTS: tuple[WeightsChoice, ...] = get_args(WeightsChoice)
IN_WORDS: dict[str, str] = {
    "ema": "the average of the weights (ema)",
    "teacher": "the mean teacher's weights (teacher)",
}
"""What outputs call weights that are not the network's own."""


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
    default: DefaultStatistics | None = None
    """The one that is shown first, and that the network's file names for `muhdi predict` and
    `export`; one of `statistics`. None: `running`."""
    weights: WeightsChoice = "model"
    """The network's own weights (`model`), their average (`ema`, with `optimizer.ema`), or the mean
    teacher's at the end of each step (`teacher`, with self-training or masked consistency); the
    network's file names them for `muhdi predict` and `export`, too."""
    batch_size: Positive = 8
    """Images, or windows, that go through the network together."""
    size: Annotated[Size | None, BeforeValidator(_native)] = None
    """Width and height at which predictions are scored; `native`: each label's own size."""
    input_size: Size | Literal["native"] | None = None
    """Width and height of the images that are scored; none: those of the training images;
    `native`: each image's own, which makes sense with `window`."""
    window: tuple[WindowSide, WindowSide] | None = None
    """Width and height of windows that slide over an image, none beyond its borders; the softmax is
    averaged where they overlap. An image that is no larger is seen whole. None: all are."""
    overlap: Overlap = OVERLAP
    """Of neighbouring windows, as a fraction of their sides."""
    flip: bool = False
    """Average the softmax of every image, or window, with that of its mirror image."""
    scales: Annotated[list[Scale], Field(min_length=1)] = [1.0]
    """Average the softmax of every image at these multiples of its size, `[0.75, 1, 1.25]` for
    example; windows stay as large as they are."""
    mean_over: list[str] = []
    """The classes whose mean is reported as mIoU, `[road, sky, car]` for example; none: all. A
    class that no label of a domain holds is left out of that domain's mean in any case."""
    select: Literal[
        "last",
        "best",
        "entropy",
        "mutual_information",
        "mirror_agreement",
        "previous_agreement",
    ] = "last"
    """The network that a step ends with: its `last` one, or of those of `snapshot_every` and the
    last one the `best` by the target's labels, or the one with the best of these scores of the
    target's predictions, which need no labels: least entropy, most of the others."""
    domain_images: Positive = 64
    """Training images from which a domain's statistics are measured, and images of a domain without
    labels that are looked at."""
    agreement: Literal["none", "unlabelled", "all"] = "unlabelled"
    """The domains of which predictions are compared with those for mirror images, and with those of
    the network of the stage before: a second and a third pass for every image."""
    every: Positive | None = None
    """Iterations between evaluations of all domains within a step, for a curve; none: they are only
    evaluated at its end. The training stays the same; `snapshot_every` keeps the networks."""
    samples: NotNegative = 4
    """Predictions per domain that are kept as images after the last step."""

    @property
    def default_statistics(self) -> DefaultStatistics:
        """`default`, once nothing is left open."""
        return self.default or "running"

    def compares(self, *, labelled: bool) -> bool:
        """Whether `agreement` holds for a domain with labels, or for one without."""
        return self.agreement == "all" or (self.agreement == "unlabelled" and not labelled)

    @model_validator(mode="after")
    def _default_is_scored(self) -> EvaluationConfig:
        if self.default is not None and self.default not in self.statistics:
            raise ValueError(f"default: {self.default} is not in 'statistics'; add it there")
        return self

    def check_views(self, sizes: Mapping[str, Size | None]) -> None:
        """Refuse an overlap without windows, and scales that leave nothing of an image.

        Args:
            sizes: width and height of the images by domain; None: each has its own.

        Raises:
            RecipeError: names the key.
        """
        # A default may be written out, as in the recipes of runs.
        if self.window is None and self.overlap != OVERLAP:
            raise RecipeError(
                "evaluation.overlap: is that of windows; set evaluation.window too, or leave it out"
            )
        for domain, size in sizes.items():
            if size and min(size) < smallest_side(self.scales):
                raise RecipeError(
                    f"evaluation.scales: {min(self.scales):g} makes the images of {domain}, which"
                    f" are {size[0]}x{size[1]}, smaller than {SMALLEST} pixels a side; leave it out"
                )

    def check_every(self, steps: Mapping[str, int]) -> None:
        """Refuse an `every` that no step is long enough for.

        Args:
            steps: iterations of every step by key.

        Raises:
            RecipeError: names the key.
        """
        longest = max(steps.values(), default=None)
        if self.every is not None and longest is not None and longest <= self.every:
            raise RecipeError(
                f"evaluation.every: no step has more than {longest} iterations, so nothing is"
                " evaluated within one; set a smaller number, or leave it out"
            )

    def check_selection(self, snapshot_every: int | None, steps: Mapping[str, int]) -> None:
        """Where the network of a step is chosen, refuse a step that has none to choose from.

        Args:
            snapshot_every: iterations between the networks that are kept; None: the last one is.
            steps: iterations of every step by key.

        Raises:
            RecipeError: names the key.
        """
        if self.select == "last":
            return
        if snapshot_every is None:
            raise RecipeError(
                "evaluation.select: chooses between networks of a step, of which only the last is"
                " kept; set snapshot_every, to 500 for example, or evaluation.select: last"
            )
        for key, iterations in steps.items():
            if iterations <= snapshot_every:
                raise RecipeError(
                    f"snapshot_every: keeps no network within the {iterations} iterations of {key}"
                    " for evaluation.select to choose from; set a smaller one"
                )


def smallest_side(scales: Sequence[float]) -> int:
    """Pixels that the sides of an image must have at least, so that no scale makes it too small."""
    return 1 if list(scales) == [1.0] else math.ceil(SMALLEST / min(scales))


def check_scales(name: str, size: Size, scales: Sequence[float]) -> None:
    """Refuse an image that a scale makes too small.

    Args:
        name: of the image, for messages.
        size: its width and height.
        scales: of `EvaluationConfig.scales`.

    Raises:
        DataError: a side is below `smallest_side`.
    """
    if min(size) < smallest_side(scales):
        raise DataError(
            f"{name}: is {size[0]}x{size[1]}, which scale {min(scales):g} makes smaller than"
            f" {SMALLEST} pixels a side; leave it out of evaluation.scales"
        )


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

    def check(self, known: Sequence[str], *, is_open: bool) -> None:
        """Refuse factors that do not fit the networks, and domains that the recipe does not have.

        Args:
            known: names of the recipe's domains.
            is_open: whether there may be others, whose names only code that is not trusted knows.

        Raises:
            RecipeError: names the key.
        """
        if self.weights and len(self.weights) != len(self.models):
            raise RecipeError(
                f"test.weights: give one for each of the {len(self.models)} test.models"
            )
        if self.weights and not 0 < sum(self.weights) < math.inf:
            raise RecipeError("test.weights: at least one must be above 0")
        for name in self.domains:
            if name not in known and not is_open:
                raise RecipeError(
                    f"test.domains: no domain is called {name!r}{nearest(name, known)} (known: "
                    f"{', '.join(known)})"
                )
