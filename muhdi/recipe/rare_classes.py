"""Rare-class sampling: source images that are drawn for a class, rare ones more often."""

from __future__ import annotations

from muhdi.errors import RecipeError
from muhdi.recipe.section import Fraction, NotNegative, Rate, Section

CROP_MIN_SHARE = 3000 / (512 * 1024)
"""Share of a crop, where nobody chooses: 1500 pixels of 512x512, as DAFormer has it, and 6000 of
1024x1024, as HRDA, MIC and VFM-UDA have it."""
CROP_TRIES = 10
"""How often a crop is drawn again, where nobody chooses (DAFormer; VFM-UDA: 20)."""


class RareClassesConfig(Section):
    """Source images are drawn for a class, rare ones more often (DAFormer, Hoyer et al. 2022,
    equations 5 and 6), instead of each once per epoch.

    A class is drawn, then one of the images that show enough of it, each as likely. VFM-UDA has
    `temperature: 0.05` and `crop_tries: 20`.
    """

    temperature: Rate = 0.01
    """A class is drawn in proportion to exp((1 - f) / temperature), f being its share of the
    source's labelled pixels: the lower, the more often the rarest are drawn."""
    min_share: Fraction = 0.00149
    """An image is drawn for a class that fills more than this share of its label, as the file has
    it. The default is the published 3000 pixels of a GTA5 label of 1914x1052."""
    crop_min_share: Fraction | None = None
    """With a random `augment.crop`: a crop is drawn again unless its class fills more than this
    share of it. None: 3000 / (512 x 1024)."""
    crop_tries: NotNegative | None = None
    """With a random `augment.crop`: how often it is drawn again, at most; the last one stays. None:
    10."""

    @property
    def smallest_in_crop(self) -> float:
        """The share of a crop that its class should exceed."""
        return CROP_MIN_SHARE if self.crop_min_share is None else self.crop_min_share

    @property
    def tries(self) -> int:
        """How often a crop is drawn again, at most."""
        return CROP_TRIES if self.crop_tries is None else self.crop_tries

    def check_crop(self, key: str, *, crops: bool) -> None:
        """Refuse keys of crops where there are none.

        Args:
            key: of this section.
            crops: whether training images are cropped.

        Raises:
            RecipeError: names the key.
        """
        for name in ("crop_min_share", "crop_tries"):
            if getattr(self, name) is not None and not crops:
                raise RecipeError(
                    f"{key}.{name}: is of random crops; leave it out, or set augment.crop"
                )
