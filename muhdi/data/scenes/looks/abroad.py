"""Another country: other vehicles, signs, fronts, trees and clothes; one drives on the left."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from muhdi.data.scenes.canvas import clip
from muhdi.data.scenes.layout import Building, Person, Pole, Tree, Vehicle
from muhdi.data.scenes.street import SCALE, Palette, Street
from muhdi.data.scenes.styles import CONSTRUCTION, HUMAN, NATURE, OBJECT, VEHICLE
from muhdi.taxonomy import Colour

AWNINGS: tuple[Colour, ...] = ((214, 60, 52), (44, 132, 92), (236, 188, 60), (60, 96, 180))
BOARDS: tuple[Colour, ...] = ((240, 206, 66), (66, 152, 92), (206, 62, 70), (70, 120, 200))


class Abroad(Street):
    """As bright as the source, and hardly anything in it looks the same."""

    drives_on: ClassVar[int] = -1
    palette: ClassVar[Palette] = replace(
        Palette(),
        skies=(((122, 178, 204), (226, 226, 206)), ((142, 184, 200), (232, 224, 200))),
        hills=((172, 156, 106), (150, 146, 100)),
        grounds=((202, 172, 118), (190, 158, 110)),
        roads=((156, 136, 120), (164, 140, 118), (148, 130, 118)),
        pavements=((186, 116, 92), (176, 122, 96)),
        markings=((240, 196, 60),),
        walls=((112, 176, 170), (230, 170, 176), (228, 208, 130), (150, 186, 122), (146, 150, 200)),
        roofs=((206, 98, 62), (188, 84, 60)),
        windows=((92, 62, 44), (52, 96, 80)),
        trunks=((138, 110, 78),),
        greens=((98, 132, 62), (120, 140, 70)),
        posts=((116, 88, 62), (128, 100, 74)),
        signs=((244, 204, 44), (36, 132, 84)),
        paints=((242, 198, 40), (46, 142, 82), (226, 224, 214), (90, 150, 196)),
        cargo=((224, 96, 44), (50, 120, 150), (198, 52, 84)),
        jackets=((238, 236, 226), (232, 132, 40), (178, 52, 120), (60, 150, 150)),
        trousers=((232, 228, 214), (150, 90, 60), (72, 100, 140)),
        skin=((142, 98, 74), (116, 78, 58)),
    )

    def is_pitched(self, house: Building) -> bool:
        """Low houses are flat, higher ones have tiles."""
        return house.storeys >= 2 and house.tone < 0.7

    def storey(self, house: Building, storey: int) -> None:
        """Shops with awnings and boards on the ground floor, balconies above."""
        if storey:
            super().storey(house, storey)
            band = clip(np.asarray(self.pick(self.palette.walls)) * 0.9)
            self.ledge(house, 0.62 + 2.1 * storey, 0.2, band)
            return
        self.ledge(house, 1.5, 1.3, (112, 88, 74))
        parts = max(2, int((house.far - house.near) / 2))
        length = (house.far - house.near) / parts
        for part in range(parts):
            near = house.near + part * length
            piece = replace(house, near=near, far=near + 0.8 * length)
            self.along(piece, (1.5, 1.75), self.pick(AWNINGS))
            self.along(piece, (1.95, 2.3), self.pick(BOARDS))
        self.ledge(replace(house, far=house.near), 1.95, 0.45, self.pick(AWNINGS))

    def along(self, house: Building, ys: tuple[float, float], colour: Colour) -> None:
        """A rectangle on the wall along the street."""
        low, high = ys
        x = house.x
        near = house.near
        far = house.far
        wall = [(x, low, near), (x, low, far), (x, high, far), (x, high, near)]
        self.quad(wall, colour, CONSTRUCTION)

    def tree(self, tree: Tree) -> None:
        """A palm; a bush is an agave."""
        x = tree.x
        z = tree.z
        height = 0.1 if tree.bush else 2.2 + 1.0 * tree.size
        if not tree.bush:
            self.box((x, 0, z), (0.2, height), self.pick(self.palette.trunks), NATURE)
        for number in range(9):
            angle = np.pi * (number + self.rng.uniform(-0.3, 0.3)) / 8
            dx = float(np.cos(angle)) * 1.1 * tree.size
            dy = float(np.sin(angle)) * 0.7 * tree.size - (0.0 if tree.bush else 0.25 * tree.size)
            self.frond((x, height, z), dx, dy, self.pick(self.palette.greens))

    def frond(self, foot: tuple[float, float, float], dx: float, dy: float, green: Colour) -> None:
        """A leaf of a palm."""
        x0, y0 = self.project(foot)
        x1, y1 = self.project((foot[0] + dx, foot[1] + dy, foot[2]))
        half = max(0.16 * self.focal / foot[2], 0.7 * SCALE)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2 - half)
        low = ((x0 + x1) / 2, (y0 + y1) / 2 + half)
        self.polygon([(x0, y0), middle, (x1, y1), low], green, NATURE, foot[2])

    def lamp(self, pole: Pole, height: float, grey: Colour) -> None:
        """Not a lamp but a post with wires on two crossbars."""
        for below in (0.1, 0.6):
            self.box((pole.x, height - below, pole.z), (1.3, 0.13), grey, OBJECT)

    def traffic_light(self, pole: Pole, height: float) -> None:
        """The three lights lie side by side, in a yellow box over the road."""
        inwards = -1 if pole.x > 0 else 1
        x = pole.x + inwards * 0.7
        self.box((x, height, pole.z), (1.4, 0.44), (232, 180, 40), OBJECT)
        number = int(3 * pole.tone)
        colour = ((52, 208, 100), (120, 80, 20), (226, 44, 36))[number]
        self.box((x + 0.4 * (number - 1), height + 0.08, pole.z), (0.28, 0.28), colour, OBJECT)

    def sign(self, pole: Pole, height: float) -> None:
        """A yellow diamond, or a wide green board."""
        if pole.tone < 0.5:
            self.diamond((pole.x, height + 0.4, pole.z), 0.58, self.palette.signs[0])
        else:
            self.box((pole.x, height - 0.1, pole.z), (1.5, 0.8), self.palette.signs[1], OBJECT)
            self.box((pole.x, height + 0.2, pole.z), (1.1, 0.16), (236, 240, 236), OBJECT)

    def person(self, person: Person) -> None:
        """A long robe, and for some a straw hat or a parasol."""
        x = person.x
        z = person.z
        tall = person.tall
        cloth = self.pick(self.palette.jackets)
        robe = [(x - 0.24, 0.05, z), (x + 0.24, 0.05, z), (x + 0.15, 0.85 * tall, z)]
        self.quad([*robe, (x - 0.15, 0.85 * tall, z)], cloth, HUMAN)
        self.disc((x, 0.95 * tall, z), 0.12, self.pick(self.palette.skin), HUMAN)
        if person.tone < 0.35:
            self.box((x, 1.02 * tall, z), (0.5, 0.1), (226, 196, 120), HUMAN)
        elif person.tone < 0.6:
            shade = [(x - 0.5, 1.12 * tall, z), (x + 0.5, 1.12 * tall, z), (x, 1.4 * tall, z)]
            self.quad(shade, self.pick(AWNINGS), HUMAN)

    def car(self, vehicle: Vehicle, x: float) -> None:
        """A rickshaw or a boxy car; what is a van at home is a minibus."""
        if vehicle.kind == "van":
            self.minibus(vehicle, x)
        elif vehicle.tone < 0.6:
            self.rickshaw(vehicle, x)
        else:
            super().car(vehicle, x)

    def rickshaw(self, vehicle: Vehicle, x: float) -> None:
        """Three wheels, a green body, an open cabin, and a yellow roof."""
        z = vehicle.z
        for dx in (-0.38, 0.38) if not vehicle.oncoming else (0.0,):
            self.box((x + dx, 0, z), (0.16, 0.34), (24, 24, 28), VEHICLE)
        self.box((x, 0.2, z), (0.95, 0.55), (40, 130, 76), VEHICLE)
        self.box((x, 0.75, z), (0.85, 0.5), (40, 36, 34), VEHICLE)
        roof = [(-0.5, 1.2), (0.5, 1.2), (0.34, 1.62), (-0.34, 1.62)]
        self.quad([(x + dx, y, z) for dx, y in roof], (244, 200, 44), VEHICLE)
        lamp = (250, 244, 214) if vehicle.oncoming else (212, 40, 34)
        self.box((x, 0.5, z), (0.2, 0.16), lamp, VEHICLE)

    def minibus(self, vehicle: Vehicle, x: float) -> None:
        """White with a stripe, and with luggage on its roof."""
        z = vehicle.z
        self.wheels(x, z, 1.3)
        self.box((x, 0.2, z), (1.3, 1.5), (228, 226, 216), VEHICLE)
        self.box((x, 0.75, z), (1.3, 0.2), self.pick(AWNINGS), VEHICLE)
        self.box((x, 1.0, z), (1.1, 0.5), (50, 62, 72), VEHICLE)
        self.box((x - 0.2, 1.7, z), (0.6, 0.35), (150, 96, 60), VEHICLE)
        self.box((x + 0.3, 1.7, z), (0.4, 0.25), (70, 110, 150), VEHICLE)
        self.lamps(vehicle, x, 1.3, 0.4)

    def truck(self, vehicle: Vehicle, x: float) -> None:
        """Painted in bands from top to bottom."""
        z = vehicle.z
        self.wheels(x, z, 1.6)
        for number in range(5):
            band = self.pick((*self.palette.cargo, *BOARDS), 8)
            self.box((x, 0.3 + 0.48 * number, z), (1.6, 0.5), band, VEHICLE)
        if vehicle.oncoming:
            self.box((x, 1.1, z), (1.3, 0.5), (50, 44, 44), VEHICLE)
        self.lamps(vehicle, x, 1.5, 0.4)
