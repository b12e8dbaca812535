"""A night after rain: lamps, headlights, lit windows, and all of them again on the wet road."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from PIL import Image, ImageFilter

from muhdi.data.scenes.canvas import Array, Light, Point, clip, spots
from muhdi.data.scenes.layout import Layout, Pole
from muhdi.data.scenes.street import SCALE, Palette, Street
from muhdi.data.scenes.styles import CONSTRUCTION, FLAT, OBJECT
from muhdi.taxonomy import Colour

LIT: tuple[Colour, ...] = ((255, 214, 128), (250, 232, 176), (196, 220, 250))
SODIUM: Colour = (255, 178, 92)


class WetNight(Street):
    """Light comes from lamps, and the road shows what stands above it."""

    palette: ClassVar[Palette] = replace(
        Palette(),
        skies=(((10, 14, 34), (44, 40, 62)), ((8, 10, 26), (58, 46, 58))),
        hills=((16, 20, 28), (20, 24, 30)),
        grounds=((22, 30, 26), (26, 32, 28)),
        roads=((30, 32, 40), (26, 28, 36), (34, 34, 40)),
        pavements=((52, 50, 54), (60, 56, 56)),
        markings=((120, 122, 126),),
        walls=((66, 44, 42), (72, 62, 52), (50, 52, 62), (78, 74, 74), (44, 48, 60)),
        roofs=((30, 24, 26), (28, 28, 34)),
        windows=((20, 24, 36),),
        trunks=((28, 22, 20),),
        greens=((22, 40, 26), (28, 46, 28), (20, 34, 24)),
        posts=((62, 62, 68), (46, 46, 52)),
        signs=((150, 40, 40), (40, 64, 140), (170, 170, 166)),
        paints=((92, 24, 28), (24, 34, 84), (112, 112, 116), (20, 20, 26), (72, 74, 80)),
        cargo=((96, 96, 96), (34, 52, 80), (84, 34, 32)),
        jackets=((70, 24, 28), (26, 36, 70), (84, 66, 30), (34, 54, 38)),
        trousers=((20, 22, 30), (30, 26, 24)),
        skin=((112, 86, 70), (76, 54, 42)),
        texture=4.0,
    )

    def __init__(self, layout: Layout, rng: np.random.Generator, size: tuple[int, int]) -> None:
        super().__init__(layout, rng, size)
        self.glows: list[Light] = []
        """Lights: x and y on the canvas, radius in its pixels, colour."""

    def cloud(self, x: float, y: float, r: float) -> None:
        """None is seen."""

    def pane(self, foot: Sequence[Point], top: float) -> None:
        """A third of the windows have light."""
        if self.rng.random() > 0.35:
            super().pane(foot, top)
            return
        (x0, bottom, z0), (x1, _, z1) = foot
        corners = [(x0, bottom, z0), (x1, bottom, z1), (x1, top, z1), (x0, top, z0)]
        self.quad(corners, self.pick(LIT, 10), CONSTRUCTION)

    def lamp(self, pole: Pole, height: float, grey: Colour) -> None:
        """It shines, and lights a part of the ground."""
        super().lamp(pole, height, grey)
        inwards = -1 if pole.x > 0 else 1
        head = (pole.x + inwards * 0.95, height - 0.1, pole.z)
        self.box(head, (0.42, 0.16), (255, 226, 170), OBJECT)
        self.glow(head, 1.5, SODIUM)
        self.glow((head[0], 0.3, head[2]), 1.8, clip(np.asarray(SODIUM) * 0.35))

    def traffic_light(self, pole: Pole, height: float) -> None:
        """The colour shines."""
        super().traffic_light(pole, height)
        number = int(3 * pole.tone)
        colour = ((40, 230, 110), (255, 190, 50), (255, 50, 40))[number]
        self.glow((pole.x, height + 0.25 + 0.3 * number, pole.z), 0.7, colour)

    def lit(self, foot: Point, size: tuple[float, float], colour: Colour) -> None:
        """Headlights dazzle, rear lights glow."""
        super().lit(foot, (size[0] * 1.2, size[1] * 1.2), colour)
        white = colour[2] > 128
        self.glow(foot, 0.3 if white else 0.26, colour)

    def glow(self, point: Point, radius: float, colour: Colour) -> None:
        """Note a light."""
        x, y = self.project(point)
        self.glows.append((x, y, self.focal * radius / point[2], colour))

    def seen(self, image: Array, label: Array, distance: Array) -> Array:
        """Light is added, first to what is there, then to the road that shows it."""
        height, width = label.shape
        lights = spots(self.glows, height, width, SCALE)
        image = image + 0.5 * lights
        image = image * (1 + 1.2 * self.beam(height, width))
        mirrored = reflection(image, self.horizon / SCALE)
        wet = 0.62 * (label == FLAT)[..., None].astype(np.float32)
        shown: Array = image * (1 - 0.4 * wet) + wet * mirrored
        return shown

    def beam(self, height: int, width: int) -> Array:
        """What the car's own headlights add, [height, width, 1]."""
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        x = self.vanish / SCALE
        across = ((columns - x) / (0.3 * width)) ** 2
        along = ((rows - height) / (0.4 * height)) ** 2
        return np.asarray(np.exp(-across - along)[..., None], np.float32)


def reflection(image: Array, horizon: float) -> Array:
    """The image upside down about the horizon, drawn out downwards as on a wet road.

    Args:
        image: float RGB [height, width, 3].
        horizon: its row.
    """
    height = image.shape[0]
    rows = np.arange(height)
    # Things near the camera stand lower: a mirror line a little below the horizon fits most.
    line = horizon + 0.08 * height
    source = np.clip(np.round(2 * line - rows), 0, height - 1).astype(int)
    picture = Image.fromarray(np.clip(image[source], 0, 255).astype(np.uint8))
    smeared = picture.resize((picture.width, max(height // 6, 1)), Image.Resampling.BOX)
    smeared = smeared.resize(picture.size, Image.Resampling.BICUBIC)
    mixed = Image.blend(picture.filter(ImageFilter.GaussianBlur(0.6)), smeared, 0.5)
    return np.asarray(mixed, np.float32)
