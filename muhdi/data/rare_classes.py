"""Source images drawn for a class, rare ones more often: DAFormer (Hoyer et al. 2022).

Which class and image a draw has depends on the seed and the number of the draw alone, as in
`muhdi.data.stream`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from muhdi.data.augment import Wanted
from muhdi.data.class_counts import ClassCounts
from muhdi.data.prepared import PreparedSet
from muhdi.errors import DataError, RecipeError
from muhdi.recipe.rare_classes import RareClassesConfig

NAMED = 3
"""Classes that are drawn most often, which a note names."""


def class_probabilities(
    shares: npt.NDArray[np.float64], drawn: npt.NDArray[np.bool_], temperature: float
) -> npt.NDArray[np.float64]:
    """How likely each class is drawn, [C]: softmax((1 - share) / temperature), equation 6.

    Args:
        shares: of each class among all labelled pixels, [C].
        drawn: which classes take part, [C], at least one; the others have 0.
        temperature: above 0.
    """
    # From the rarest on, which leaves the softmax as it is and never overflows.
    distances = (shares - shares[drawn].min()) / temperature
    weights = np.where(drawn, np.exp(-np.maximum(distances, 0.0)), 0.0)
    probabilities: npt.NDArray[np.float64] = weights / weights.sum()
    return probabilities


class RareClasses:
    """A labelled set whose images are drawn for a class.

    Attributes:
        samples: the set.
        config: how they are drawn.
        stages: keys of the stages that draw so.
        probabilities: of each class, [C]; 0 of one that is left out.
        images: for each class, indices of the images that are drawn for it.

    Args:
        samples: the source's training images.
        counts: of their labels.
        config: of the recipe.
        stages: keys of the stages that draw so, for messages.
        classes: their names.

    Raises:
        DataError: no pixel is of any class.
        RecipeError: no image shows enough of any class.
    """

    def __init__(
        self,
        samples: PreparedSet,
        counts: ClassCounts,
        config: RareClassesConfig,
        stages: Sequence[str],
        classes: Sequence[str],
    ) -> None:
        self.samples = samples
        self.config = config
        self.stages = tuple(stages)
        shares_of_images = counts.shares_of_images()
        self._largest = shares_of_images.max(0)
        self._check(classes)
        self.images = [np.flatnonzero(column > config.min_share) for column in shares_of_images.T]
        drawn = self._largest > config.min_share
        self.probabilities = class_probabilities(counts.shares(), drawn, config.temperature)

    def _check(self, classes: Sequence[str]) -> None:
        """Refuse a set without a class that could be drawn."""
        key = f"{self.stages[0]}.rare_classes"
        domain = self.samples.images.domain
        largest = float(self._largest.max())
        if not largest:
            raise DataError(
                f"{key}: no pixel of the labels of {domain!r} is of any class; look at its table of"
                " ids: muhdi inspect"
            )
        if largest <= self.config.min_share:
            name = classes[int(self._largest.argmax())]
            raise RecipeError(
                f"{key}.min_share: no class fills more than {self.config.min_share:g} of an image"
                f" of {domain!r}; the largest, {name}, fills {largest:.3g} of one; set a smaller"
                " min_share"
            )

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """A class, and the index of an image that is drawn for it."""
        label = int(rng.choice(len(self.probabilities), p=self.probabilities))
        images = self.images[label]
        return label, int(images[rng.integers(len(images))])

    def wanted(self, label: int) -> Wanted:
        """What a crop of an image that was drawn for a class should show."""
        return Wanted(label, self.config.smallest_in_crop, self.config.tries)

    @property
    def where(self) -> str:
        """The stages that draw so, in short."""
        first, *others = self.stages
        return f"{first} and {len(others)} more" if others else first

    def notes(self, classes: Sequence[str]) -> list[str]:
        """What the user should know: which classes are drawn, and which never are.

        Args:
            classes: their names.
        """
        domain = self.samples.images.domain
        order = np.argsort(-self.probabilities, kind="stable")[:NAMED]
        most = ", ".join(f"{classes[i]} {100 * self.probabilities[i]:.1f} %" for i in order)
        notes = [
            f"{domain}: images are drawn for a class, rare ones more often (rare_classes of"
            f" {self.where}); most often {most}"
        ]
        absent = _named(self._largest == 0, classes)
        if absent:
            notes.append(f"{domain}: never drawn for, since no label holds it: {absent}")
        small = _named((self._largest > 0) & (self._largest <= self.config.min_share), classes)
        if small:
            notes.append(
                f"{domain}: never drawn for, since no image has more than"
                f" {self.config.min_share:g} (min_share) of it: {small}"
            )
        return notes


def _named(chosen: npt.NDArray[np.bool_], classes: Sequence[str]) -> str:
    return ", ".join(name for name, is_chosen in zip(classes, chosen, strict=True) if is_chosen)
