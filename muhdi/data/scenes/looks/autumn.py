"""A late afternoon in autumn: red and yellow leaves, also on the ground, and long shadows."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from muhdi.data.scenes.canvas import Array, clip
from muhdi.data.scenes.layout import Person, Tree
from muhdi.data.scenes.street import Palette, Street
from muhdi.data.scenes.styles import FLAT


class Autumn(Street):
    """Trees have the colours of walls, and the ground those of trees."""

    palette: ClassVar[Palette] = replace(
        Palette(),
        skies=(((116, 140, 178), (250, 196, 132)), ((150, 146, 166), (252, 178, 112))),
        hills=((150, 92, 52), (168, 116, 56)),
        grounds=((176, 122, 52), (158, 96, 46), (170, 140, 66)),
        roads=((96, 86, 78), (88, 80, 74), (104, 92, 82)),
        pavements=((176, 150, 112), (164, 140, 108)),
        walls=((168, 104, 72), (206, 172, 118), (170, 158, 148), (214, 196, 164), (142, 132, 134)),
        greens=((214, 112, 34), (232, 168, 44), (178, 60, 38), (200, 140, 50)),
        jackets=((110, 70, 50), (66, 74, 62), (140, 96, 50), (84, 56, 60)),
    )

    def marks(self) -> None:
        """Long shadows, and leaves on the road, its edges and around trees, which hide lines."""
        super().marks()
        for thing in self.layout.things:
            if isinstance(thing, Tree):
                self.shadow(thing.x, thing.z, 0.5 * thing.size)
                for dx, dy, radius in thing.leaves:
                    z = thing.z * (1 + 0.05 * dy)
                    self.leaf(thing.x + 1.6 * thing.size * dx, z, 0.5 * radius)
            elif isinstance(thing, Person):
                self.shadow(thing.x, thing.z, 0.2)
        road = self.layout.road
        for _ in range(160):
            z = float(np.exp(self.rng.uniform(np.log(0.9), np.log(14))))
            side = self.rng.choice((-1, 1))
            self.leaf(side * (road + self.rng.normal(0.1, 0.7)), z, self.rng.uniform(0.05, 0.14))

    def leaf(self, x: float, z: float, size: float) -> None:
        """A leaf on the road or the pavement; beyond, none is seen."""
        if abs(x) + size < self.layout.kerb - 0.1:
            self.patch((x, x + size), (z, z + 1.4 * size), self.pick(self.palette.greens))

    def shadow(self, x: float, z: float, half: float) -> None:
        """A dark strip towards the left, as far as the pavement: the sun is low on the right."""
        dark = clip(np.asarray(self.road_colour) * 0.55)
        strip = [(x, 0, z), (x, 0, z + half), (x - 5, 0, z + 0.4 + half), (x - 5, 0, z + 0.4)]
        edge = self.layout.kerb - 0.1
        if x < -edge:
            return
        clipped = [(float(np.clip(a, -edge, edge)), b, c) for a, b, c in strip]
        self.quad(clipped, dark, FLAT)

    def seen(self, image: Array, label: Array, distance: Array) -> Array:
        """Golden light, most of it from the right."""
        width = label.shape[1]
        sun = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :, None]
        haze = (0.1 + 0.25 * distance[..., None]) * (0.4 + 0.6 * sun)
        seen: Array = image * (1 - haze) + np.asarray((255, 206, 140), np.float32) * haze
        return seen
