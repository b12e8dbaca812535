"""Thick fog: what is near has lost its colours, and what is far cannot be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from muhdi.data.scenes.canvas import FAR, Array
from muhdi.data.scenes.street import Palette, Street

WHITE = (204, 208, 212)
VISIBILITY = (4.0, 9.0)
"""Camera heights after which 63 % of the light is the fog's."""


class Fog(Street):
    """A class keeps its label where the fog hides it: the street is there all the same."""

    palette: ClassVar[Palette] = replace(
        Palette(),
        skies=((WHITE, WHITE),),
        hills=((170, 178, 174),),
        roads=((74, 78, 82), (68, 72, 76), (80, 82, 86)),
        markings=((176, 178, 180),),
    )

    def cloud(self, x: float, y: float, r: float) -> None:
        """None is seen."""

    def seen(self, image: Array, label: Array, distance: Array) -> Array:
        """Light that comes through the fog, and the fog's own (Koschmieder's law)."""
        visibility = self.rng.uniform(*VISIBILITY)
        through = np.exp(-FAR * distance / visibility)[..., None].astype(np.float32)
        grey = image.mean(2, keepdims=True)
        faded = grey + 0.75 * (image - grey)
        seen: Array = faded * through + np.asarray(WHITE, np.float32) * (1 - through)
        return seen
