"""Deep winter: snow on the road, the roofs, the trees and the cars, under a white sky."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from muhdi.data.scenes.canvas import Array, clip
from muhdi.data.scenes.layout import Building, Person, Pole, Tree, Vehicle
from muhdi.data.scenes.street import Palette, Street
from muhdi.data.scenes.styles import CONSTRUCTION, FLAT, HUMAN, NATURE, OBJECT, VEHICLE
from muhdi.taxonomy import Colour

SNOW: Colour = (236, 240, 248)
SHADE: Colour = (200, 208, 224)
FLAKES = 60
"""Mean number in an image of 128x64."""


class Snow(Street):
    """What was green or grey is white; a road under snow is still a road."""

    palette: ClassVar[Palette] = replace(
        Palette(),
        skies=(((196, 202, 212), (226, 230, 236)), ((182, 190, 204), (220, 224, 232))),
        hills=((206, 212, 222), (190, 200, 212)),
        grounds=((232, 236, 244), (224, 230, 240)),
        roads=((208, 212, 222), (198, 204, 214), (216, 218, 226)),
        pavements=((228, 232, 240), (220, 226, 236)),
        greens=((226, 232, 240), (212, 220, 232)),
        trunks=((58, 48, 44), (66, 58, 52)),
        jackets=((44, 48, 66), (92, 40, 44), (52, 66, 58), (70, 62, 76)),
        texture=6.0,
    )

    def cloud(self, x: float, y: float, r: float) -> None:
        """None: the sky is one cloud."""

    def marks(self) -> None:
        """Tracks of tyres instead of lines, and the banks that the plough has left."""
        wet = clip(np.asarray(self.road_colour) * 0.62)
        for lane in (-1, 1):
            for side in (-0.55, 0.55):
                middle = lane * 0.52 * self.layout.road + side
                self.patch((middle - 0.17, middle + 0.17), (0.5, 30), wet)
        for side in (-1, 1):
            x = side * (self.layout.road + 0.1)
            for z0, z1 in ((0.6, 2.0), (2.0, 6.0), (6.0, 20.0)):
                bank = [(x, 0, z0), (x, 0, z1), (x, 0.3, z1), (x, 0.3, z0)]
                self.quad(bank, SHADE, FLAT)

    def eaves(self, house: Building, height: float, wall: Colour) -> None:
        """Snow on the walls' upper edge."""
        self.ledge(house, height + 0.35, 0.6, SNOW)

    def roof(self, house: Building, height: float) -> None:
        """White, with a gable of the roof's colour."""
        if not self.is_pitched(house):
            return
        ridge = (house.x + house.back) / 2
        top = height + 0.36 * abs(house.back - house.x)
        x = house.x
        near = house.near
        far = house.far
        slope = [(x, height, near), (x, height, far), (ridge, top, far), (ridge, top, near)]
        self.quad(slope, SNOW, CONSTRUCTION)
        gable = [(x, height, near), (ridge, top, near), (house.back, height, near)]
        self.quad([(a, b + 0.25, z) for a, b, z in gable], SNOW, CONSTRUCTION)
        self.quad(gable, self.pick(self.palette.roofs), CONSTRUCTION)

    def tree(self, tree: Tree) -> None:
        """Bare branches with snow on them."""
        base = self.trunk(tree)
        x = tree.x
        z = tree.z
        bark = self.pick(self.palette.trunks)
        for dx, dy, radius in tree.leaves:
            tip = (x + 1.3 * tree.size * dx, base + tree.size * (dy + 0.4), z)
            self.branch((x, base - 0.5 * tree.size, z), tip, bark)
            white = self.pick(self.palette.greens)
            self.disc(tip, 0.55 * tree.size * radius, white, NATURE)

    def branch(
        self,
        foot: tuple[float, float, float],
        tip: tuple[float, float, float],
        bark: Colour,
    ) -> None:
        """A thin line of a tree."""
        x0, y0 = self.project(foot)
        x1, y1 = self.project(tip)
        half = max(0.07 * self.focal / foot[2], 1.2)
        corners = [(x0 - half, y0), (x0 + half, y0), (x1 + half / 2, y1), (x1 - half / 2, y1)]
        self.polygon(corners, bark, NATURE, foot[2])

    def pole(self, pole: Pole) -> None:
        """A cap of snow on what is on top."""
        super().pole(pole)
        height = {"lamp": 4.78, "light": 4.2, "sign": 3.02}[pole.kind]
        inwards = 0.5 if pole.kind == "lamp" else 0.0
        x = pole.x - inwards if pole.x > 0 else pole.x + inwards
        self.box((x, height, pole.z), (1.2 if inwards else 0.5, 0.16), SNOW, OBJECT)

    def person(self, person: Person) -> None:
        """A long coat and a hat."""
        super().person(person)
        x = person.x
        z = person.z
        tall = person.tall
        self.box((x, 0.22 * tall, z), (0.44, 0.62 * tall), self.pick(self.palette.jackets), HUMAN)
        self.box((x, 1.0 * tall, z), (0.26, 0.14), self.pick(self.palette.jackets), HUMAN)

    def car(self, vehicle: Vehicle, x: float) -> None:
        """Snow on roof and bonnet."""
        super().car(vehicle, x)
        van = vehicle.kind == "van"
        width, top, cabin = (1.35, 1.11, 0.75) if van else (1.25, 0.71, 0.44)
        self.box((x, top + cabin - 0.06, vehicle.z), (0.78 * width, 0.2), SNOW, VEHICLE)
        self.box((x, top - 0.06, vehicle.z), (0.96 * width, 0.13), SHADE, VEHICLE)

    def truck(self, vehicle: Vehicle, x: float) -> None:
        """Snow on top."""
        super().truck(vehicle, x)
        self.box((x, 2.4, vehicle.z), (1.56, 0.26), SNOW, VEHICLE)

    def seen(self, image: Array, label: Array, distance: Array) -> Array:
        """White air in the distance, and flakes."""
        haze = 0.55 * np.clip(distance - 0.1, 0, 1)[..., None]
        image = image * (1 - haze) + np.asarray((222, 226, 234), np.float32) * haze
        height, width = label.shape
        drawn = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        pen = ImageDraw.Draw(drawn)
        for _ in range(self.rng.poisson(FLAKES * height * width / (128 * 64))):
            x = self.rng.uniform(0, width)
            y = self.rng.uniform(0, height)
            size = self.rng.choice((0, 0, 0, 0, 0, 1))
            pen.rectangle((x, y, x + size, y + size), fill=(246, 248, 252))
        return np.asarray(drawn, np.float32)
