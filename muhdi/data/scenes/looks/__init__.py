"""The second edition of the scenes: one street, six looks, a file for each but the first.

Unlike those of the first edition they do not differ in contrast, which normalisation repairs, but
in what the classes look like.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from muhdi.data.scenes.layout import draw_layout
from muhdi.data.scenes.looks.abroad import Abroad
from muhdi.data.scenes.looks.autumn import Autumn
from muhdi.data.scenes.looks.fog import Fog
from muhdi.data.scenes.looks.snow import Snow
from muhdi.data.scenes.looks.wet_night import WetNight
from muhdi.data.scenes.street import SCALE, Street

LOOKS: dict[str, type[Street]] = {
    "day": Street,
    "snow": Snow,
    "wet_night": WetNight,
    "autumn": Autumn,
    "abroad": Abroad,
    "fog": Fog,
}
"""The looks by name; ``day`` is the source."""


def draw_street(
    look: str, seed: tuple[int, ...], size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """One scene of the second edition.

    Args:
        look: a key of `LOOKS`.
        seed: any integers >= 0; the same ones give the same street in every look.
        size: width and height in pixels.

    Returns:
        Image, uint8 RGB [height, width, 3], and label, uint8 [height, width], positions in
        `muhdi.data.scenes.styles.CLASSES`.
    """
    layout = draw_layout(np.random.default_rng(seed))
    rng = np.random.default_rng([zlib.crc32(look.encode()), *seed])
    street = LOOKS[look](layout, rng, size)
    street.paint()
    label = np.asarray(street.label)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].copy()
    distance = np.asarray(street.distance.reduce(SCALE), np.float32) / np.float32(255)
    painted = np.asarray(street.colour.reduce(SCALE), np.float32)
    image = street.seen(street.grain(painted, label, distance), label, distance)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(2)
    return np.clip(image + noise, 0, 255).astype(np.uint8), label
