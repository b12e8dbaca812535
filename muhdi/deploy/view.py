"""How a network is shown images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from muhdi.data.sets import Size
from muhdi.errors import RecipeError, check_type
from muhdi.evaluation.views import Views
from muhdi.recipe.evaluation import MAX_OVERLAP, MAX_SCALE, OVERLAP, SMALLEST


@dataclass(frozen=True)
class View:
    """How a network is shown images.

    Attributes:
        size: width and height to which an image is resized first; None: the size that the network
            was trained at, or with ``window`` the image's own.
        window: look at windows of the size that the network was trained at instead of at the whole
            image. They do not reach beyond the image; one that is no larger is seen whole.
        overlap: of neighbouring windows, as a fraction of their sides, 0 or more and below 0.95;
            None: a quarter. Only with ``window``.
        batch_size: images, or windows, that go through the network at a time.
        flip: average the probabilities of the image, or of a window, and of its mirror image.
        scales: average the probabilities of the image at these multiples of its size.
    """

    size: Size | None = None
    window: bool = False
    overlap: float | None = None
    batch_size: int = 8
    flip: bool = False
    scales: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        check_type("batch_size", self.batch_size, int)
        check_type("overlap", self.overlap, int, float, type(None))
        check_type("window", self.window, bool)
        check_type("flip", self.flip, bool)
        check_type("scales", self.scales, list, tuple)
        if self.size is not None and not _is_size(self.size):
            raise RecipeError(f"size {self.size!r}: must be width and height, such as (640, 320)")
        self._check_overlap()
        self._check_scales()
        if self.batch_size < 1 or (self.size is not None and min(self.size) < SMALLEST):
            raise RecipeError(
                f"batch_size must be at least 1, and both sides of size at least {SMALLEST}"
            )

    def _check_overlap(self) -> None:
        if self.overlap is None:
            return
        if not 0 <= self.overlap < MAX_OVERLAP:
            raise RecipeError(
                f"overlap {self.overlap}: must be a fraction of the window from 0 to below"
                f" {MAX_OVERLAP}"
            )
        if not self.window:
            raise RecipeError(
                f"overlap {self.overlap}: is that of windows; ask for windows, too, or leave it out"
            )

    def _check_scales(self) -> None:
        if not self.scales:
            raise RecipeError("scales: give at least one, such as 1.0")
        for scale in self.scales:
            check_type("scales", scale, int, float)
            if not 0 < scale <= MAX_SCALE:
                raise RecipeError(f"scales: {scale} must be above 0 and at most {MAX_SCALE:g}")

    def views(self, trained: Size) -> Views:
        """The views that are averaged, of a network that was trained at a size."""
        return Views(
            window=trained if self.window else None,
            overlap=OVERLAP if self.overlap is None else self.overlap,
            flip=self.flip,
            scales=tuple(map(float, self.scales)),
            batch_size=self.batch_size,
        )


def _is_size(size: object) -> bool:
    """Whether a value is a width and a height."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        return False
    return all(isinstance(side, int) for side in size)
