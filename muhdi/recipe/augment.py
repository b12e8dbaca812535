"""Random changes of training images."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.section import Fraction, Section, Size


def _kind_of_crop(crop: Any) -> str:
    return "window" if isinstance(crop, (list, tuple)) else "share"


def _is_a_share(crop: Any) -> Any:
    """Refuse pixels without a height in words that say how they are given."""
    if isinstance(crop, (int, float)) and crop > 1:
        message = f"must be a share from 0 to 1, or [width, height] in pixels (it is {crop})"
        raise plugins.explained(message)
    return crop


Share = Annotated[float, Field(gt=0.0, le=1.0)]
Crop = Annotated[
    Annotated[Share, BeforeValidator(_is_a_share), Tag("share")] | Annotated[Size, Tag("window")],
    Discriminator(_kind_of_crop),
]
LARGEST_CLASS = 0.75
"""Share of a window that one class may fill, where nobody chooses (mmsegmentation)."""


class AugmentConfig(Section):
    """Random changes of training images; the default changes nothing."""

    crop: Crop = 1.0
    """The smallest window that is cut out, as a fraction of the image's sides; it is resized to the
    full size. Or `[width, height]` in pixels: a window of exactly this size, which is what training
    sees then; evaluation sees whole images."""
    crop_max_class: Share | None = None
    """With a crop in pixels of a labelled image: a window of which one class fills more than this
    share, of its labelled pixels, is drawn again, up to 10 times. None: 0.75; 1: never."""
    flip: bool = False
    """Mirror half of the images."""
    colour: Fraction = 0.0
    """Brightness, contrast and saturation change by up to 1 +- this."""

    @property
    def window(self) -> Size | None:
        """Width and height of a crop in pixels; None without one."""
        return self.crop if isinstance(self.crop, tuple) else None

    @property
    def crops(self) -> bool:
        """Whether training sees random parts of images."""
        return self.crop != 1.0

    @property
    def largest_class(self) -> float:
        """The share of a crop in pixels that one class may fill."""
        return LARGEST_CLASS if self.crop_max_class is None else self.crop_max_class

    @model_validator(mode="after")
    def _one_meaning(self) -> AugmentConfig:
        if self.crop_max_class is not None and self.window is None:
            raise RecipeError(
                "augment.crop_max_class: is of a crop in pixels; leave it out, or set augment.crop"
                " to [width, height]"
            )
        return self

    def check_fits(self, key: str, size: Size) -> None:
        """Refuse a crop in pixels that is larger than the images.

        Args:
            key: of the images' size.
            size: width and height.

        Raises:
            RecipeError: names both keys.
        """
        window = self.window
        if window is None or (window[0] <= size[0] and window[1] <= size[1]):
            return
        raise RecipeError(
            f"augment.crop: {window[0]}x{window[1]} is larger than {key}, {size[0]}x{size[1]}; set"
            " a smaller crop or a larger image_size"
        )
