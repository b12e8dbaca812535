"""A street as the source sees it: a clear day. The other looks paint parts of it differently."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from muhdi.data.scenes.canvas import FAR, Array, Canvas, Point, clip, soft_noise
from muhdi.data.scenes.layout import Building, Layout, Person, Pole, Thing, Tree, Vehicle
from muhdi.data.scenes.styles import (
    CONSTRUCTION,
    FLAT,
    HUMAN,
    NATURE,
    OBJECT,
    SKY,
    VEHICLE,
)
from muhdi.taxonomy import Colour

SCALE = 3
"""Everything is drawn this much larger than the image."""

PIECES = tuple(np.geomspace(FAR, 0.9, 20).tolist())
"""Distances at which the ground is cut, from far to near: a piece has one distance."""

Colours = tuple[Colour, ...]


@dataclass(frozen=True)
class Palette:
    """The colours of a look; one of each group is chosen and varied a little."""

    skies: tuple[tuple[Colour, Colour], ...] = (
        ((84, 146, 218), (186, 214, 242)),
        ((66, 128, 208), (174, 208, 242)),
    )
    hills: Colours = ((70, 130, 70), (90, 140, 90))
    grounds: Colours = ((92, 156, 72), (104, 164, 82))
    roads: Colours = ((84, 86, 90), (76, 78, 82), (92, 90, 94))
    pavements: Colours = ((158, 154, 150), (172, 166, 158))
    markings: Colours = ((236, 236, 232),)
    walls: Colours = (
        (178, 92, 72),
        (200, 164, 112),
        (154, 156, 164),
        (208, 202, 190),
        (126, 136, 156),
    )
    roofs: Colours = ((122, 70, 58), (92, 90, 96), (104, 80, 66))
    windows: Colours = ((66, 82, 104),)
    trunks: Colours = ((92, 70, 52),)
    greens: Colours = ((60, 136, 52), (80, 156, 62), (52, 118, 52))
    posts: Colours = ((112, 114, 118), (74, 76, 80))
    signs: Colours = ((204, 40, 40), (40, 80, 194), (238, 238, 234))
    paints: Colours = (
        (200, 40, 40),
        (40, 72, 184),
        (236, 236, 236),
        (44, 44, 50),
        (168, 170, 176),
    )
    cargo: Colours = ((226, 226, 222), (70, 110, 170), (190, 70, 60))
    jackets: Colours = ((200, 50, 50), (50, 80, 172), (212, 162, 52), (70, 130, 82))
    trousers: Colours = ((50, 54, 72), (72, 62, 54), (40, 40, 46))
    skin: Colours = ((214, 168, 138), (142, 98, 74))
    texture: float = 5.0
    """Deviation of the surfaces' grain, in grey levels."""


class Street(Canvas):
    """One scene while it is painted, in the look of a clear day.

    A look is a class of its own that changes the palette, some of the parts, or `seen`.

    Args:
        layout: what stands where.
        rng: of everything that the layout does not say.
        size: width and height of the image; the canvases are `SCALE` times as large.
    """

    palette: ClassVar[Palette] = Palette()
    drives_on: ClassVar[int] = 1
    """Side of the road on which one drives: 1 is right, -1 left."""

    def __init__(self, layout: Layout, rng: np.random.Generator, size: tuple[int, int]) -> None:
        width, height = size
        super().__init__(rng, (SCALE * width, SCALE * height), layout.horizon, layout.vanish)
        self.layout = layout
        self.road_colour = self.pick(self.palette.roads, 6)

    def paint(self) -> None:
        """Everything, from far to near."""
        self.sky()
        self.land()
        self.road()
        self.marks()
        draws: list[tuple[float, Callable[[], None]]] = []
        for building in self.layout.buildings:
            draws.append((building.far, partial(self.building, building)))
        for thing in self.layout.things:
            draws.append((thing.z, partial(self.thing, thing)))
        for _, draw in sorted(draws, key=lambda item: -item[0]):
            draw()

    def seen(self, image: Array, label: Array, distance: Array) -> Array:
        """What the camera sees of the painted scene.

        Args:
            image: float RGB [height, width, 3] in 0..255, with the grain of surfaces.
            label: classes [height, width].
            distance: 0..1 of `FAR`, [height, width].
        """
        return image

    def grain(self, image: Array, label: Array, distance: Array) -> Array:
        """The image with the grain of its surfaces; the sky has less, and so has what is far."""
        height, width = label.shape
        noise = soft_noise(self.rng, height, width)[..., None]
        near = (0.3 + 0.7 * (distance < 0.8) * (label != SKY))[..., None]
        grey_levels: Array = self.palette.texture * noise * near.astype(np.float32)
        return image + grey_levels

    # --- the ground ---

    def sky(self) -> None:
        """A gradient, and a few clouds."""
        top, bottom = self.palette.skies[self.rng.integers(len(self.palette.skies))]
        self.gradient(top, bottom)
        for _ in range(self.rng.poisson(2)):
            x = self.rng.uniform(0, self.w)
            y = self.rng.uniform(0, 0.8 * self.horizon)
            self.cloud(x, y, self.h * self.rng.uniform(0.04, 0.1))

    def cloud(self, x: float, y: float, r: float) -> None:
        """A few discs in a row."""
        for dx, size in ((-1.2, 0.6), (0.0, 1.0), (1.2, 0.7)):
            box = (x + r * (dx - size), y - r * size * 0.6, x + r * (dx + size), y + r * size * 0.6)
            self.pens[0].ellipse(box, fill=(236, 242, 250))

    def land(self) -> None:
        """Far hills, and the ground up to the camera."""
        xs = np.linspace(0, self.w, len(self.layout.hills)).tolist()
        hills = []
        for x, height in zip(xs, self.layout.hills, strict=True):
            hills.append((x, self.horizon - self.h * height))
        far = [(float(self.w), self.horizon + 2), (0.0, self.horizon + 2)]
        self.polygon(hills + far, self.pick(self.palette.hills), NATURE, 30)
        ground = self.pick(self.palette.grounds)
        edges = [self.horizon + self.focal / z for z in PIECES]
        for y0, y1 in itertools.pairwise([self.horizon, *edges]):
            z = self.focal / ((y0 + y1) / 2 - self.horizon)
            self.polygon([(0, y0), (self.w, y0), (self.w, y1 + 1), (0, y1 + 1)], ground, NATURE, z)

    def road(self) -> None:
        """Pavements, the kerb's edge, and the road between."""
        pavement = self.pick(self.palette.pavements)
        road = self.layout.road
        self.strip(-self.layout.kerb, self.layout.kerb, pavement)
        edge = clip(np.asarray(pavement) * 0.72)
        self.strip(-road - 0.08, road + 0.08, edge)
        self.strip(-road, road, self.road_colour)

    def strip(self, left: float, right: float, colour: Colour) -> None:
        """A strip of flat ground from the camera to far away, in pieces with a distance each."""
        for z1, z0 in itertools.pairwise(PIECES):
            self.quad([(left, 0, z0), (right, 0, z0), (right, 0, z1), (left, 0, z1)], colour, FLAT)

    def marks(self) -> None:
        """The lines on the road, and a zebra crossing."""
        layout = self.layout
        paint = self.pick(self.palette.markings, 4)
        for z in np.arange(layout.dashes, 16, 2.6).tolist():
            self.patch((-0.09, 0.09), (z, z + 1.3), paint)
        if layout.edge_lines:
            for side in (-1, 1):
                x = side * (layout.road - 0.25)
                self.patch((x, x + 0.12), (0.5, 30), paint)
        if layout.crossing is not None:
            for x in np.arange(-layout.road + 0.2, layout.road - 0.3, 0.75).tolist():
                self.patch((x, x + 0.4), (layout.crossing, layout.crossing + 0.9), paint)

    def patch(self, xs: tuple[float, float], zs: tuple[float, float], colour: Colour) -> None:
        """A rectangle on the ground."""
        x0, x1 = xs
        z0, z1 = zs
        self.quad([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)], colour, FLAT)

    # --- what stands on it ---

    def thing(self, thing: Thing) -> None:
        """Whatever it is."""
        if isinstance(thing, Tree):
            self.tree(thing)
        elif isinstance(thing, Pole):
            self.pole(thing)
        elif isinstance(thing, Person):
            self.person(thing)
        else:
            self.vehicle(thing, self.position(thing))

    def position(self, vehicle: Vehicle) -> float:
        """The x of a vehicle: those that come drive on the other side."""
        return -self.drives_on * vehicle.lane if vehicle.oncoming else self.drives_on * vehicle.lane

    def building(self, house: Building) -> None:
        """Roof, the wall along the street, the end that faces the camera, and windows."""
        height = 2.1 * house.storeys + 0.5
        wall = self.pick(self.palette.walls)
        self.roof(house, height)
        self.walls(house, height, wall)
        if house.near <= 14:  # farther away windows would be smaller than a pixel
            for storey in range(house.storeys):
                self.storey(house, storey)
        self.eaves(house, height, wall)

    def walls(self, house: Building, height: float, wall: Colour) -> None:
        """Both walls that the camera sees; the one along the street is in the shade."""
        x = house.x
        back = house.back
        near = house.near
        far = house.far
        end = [(x, 0, near), (back, 0, near), (back, height, near), (x, height, near)]
        self.quad(end, wall, CONSTRUCTION)
        along = [(x, 0, near), (x, 0, far), (x, height, far), (x, height, near)]
        self.quad(along, clip(np.asarray(wall) * 0.8), CONSTRUCTION)

    def is_pitched(self, house: Building) -> bool:
        """Whether it has a roof with a ridge; else it is flat."""
        return house.storeys <= 3 and house.tone < 0.6

    def roof(self, house: Building, height: float) -> None:
        """The slope towards the street, and the gable."""
        if not self.is_pitched(house):
            return
        ridge = (house.x + house.back) / 2
        top = height + 0.32 * abs(house.back - house.x)
        tiles = self.pick(self.palette.roofs)
        x = house.x
        near = house.near
        far = house.far
        slope = [(x, height, near), (x, height, far), (ridge, top, far), (ridge, top, near)]
        self.quad(slope, tiles, CONSTRUCTION)
        gable: list[Point] = [(x, height, near), (ridge, top, near), (house.back, height, near)]
        self.quad(gable, clip(np.asarray(tiles) * 0.85), CONSTRUCTION)

    def eaves(self, house: Building, height: float, wall: Colour) -> None:
        """The upper edge of the walls."""
        self.ledge(house, height, 0.22, clip(np.asarray(wall) * 0.62))

    def ledge(self, house: Building, height: float, thick: float, colour: Colour) -> None:
        """A band along both walls, up to a height."""
        x = house.x
        back = house.back
        low = height - thick
        near = house.near
        far = house.far
        end = [(x, low, near), (back, low, near), (back, height, near), (x, height, near)]
        self.quad(end, colour, CONSTRUCTION)
        along = [(x, low, near), (x, low, far), (x, height, far), (x, height, near)]
        self.quad(along, colour, CONSTRUCTION)

    def storey(self, house: Building, storey: int) -> None:
        """The windows of one storey, on both walls; 0 is the ground floor."""
        bottom = 0.7 + 2.1 * storey
        top = bottom + 1.2
        length = house.far - house.near
        columns = max(2, int(length * 0.8))
        for column in range(columns):
            z0 = house.near + length * (column + 0.25) / columns
            z1 = house.near + length * (column + 0.75) / columns
            self.pane([(house.x, bottom, z0), (house.x, bottom, z1)], top)
        width = house.back - house.x
        for column in range(3):
            x0 = house.x + width * (0.1 + 0.3 * column)
            x1 = x0 + width * 0.17
            self.pane([(x0, bottom, house.near), (x1, bottom, house.near)], top)

    def pane(self, foot: Sequence[Point], top: float) -> None:
        """One window above the two ends of its lower edge."""
        (x0, bottom, z0), (x1, _, z1) = foot
        corners = [(x0, bottom, z0), (x1, bottom, z1), (x1, top, z1), (x0, top, z0)]
        self.quad(corners, self.pick(self.palette.windows, 8), CONSTRUCTION)

    def tree(self, tree: Tree) -> None:
        """A trunk and a crown of overlapping discs, or a bush."""
        base = self.trunk(tree)
        green = self.pick(self.palette.greens)
        for dx, dy, radius in tree.leaves:
            shade = clip(np.asarray(green) * self.rng.uniform(0.78, 1.15))
            middle = (tree.x + tree.size * dx, base + tree.size * dy, tree.z)
            self.disc(middle, tree.size * radius, shade, NATURE)

    def trunk(self, tree: Tree) -> float:
        """The trunk of a tree; returns the height of its crown's middle."""
        if tree.bush:
            return tree.size * 0.7
        height = 1.4 + 0.9 * tree.size
        self.box((tree.x, 0, tree.z), (0.24, height), self.pick(self.palette.trunks), NATURE)
        return height + 0.3 * tree.size

    def disc(self, middle: Point, radius: float, colour: Colour, label: int) -> None:
        """A disc that faces the camera."""
        cx, cy = self.project(middle)
        r = max(self.focal * radius / middle[2], 0.7 * SCALE)
        self.ellipse((cx - r, cy - r, cx + r, cy + r), colour, label, middle[2])

    def pole(self, pole: Pole) -> None:
        """A street lamp, a traffic light or a sign, on its post."""
        height = {"lamp": 4.6, "light": 3.2, "sign": 2.5}[pole.kind]
        grey = self.pick(self.palette.posts)
        self.box((pole.x, 0, pole.z), (0.18, height), grey, OBJECT)
        if pole.kind == "lamp":
            self.lamp(pole, height, grey)
        elif pole.kind == "light":
            self.traffic_light(pole, height)
        else:
            self.sign(pole, height)

    def lamp(self, pole: Pole, height: float, grey: Colour) -> None:
        """An arm over the road, with the lamp at its end."""
        inwards = -1 if pole.x > 0 else 1
        self.box((pole.x + inwards * 0.5, height, pole.z), (1.2, 0.14), grey, OBJECT)
        self.box((pole.x + inwards * 0.95, height - 0.1, pole.z), (0.4, 0.14), grey, OBJECT)

    def traffic_light(self, pole: Pole, height: float) -> None:
        """Three lights above each other; one of them is on."""
        self.box((pole.x, height, pole.z), (0.44, 1.05), (36, 38, 42), OBJECT)
        number = int(3 * pole.tone)
        colour = ((52, 208, 100), (244, 184, 48), (226, 44, 36))[number]
        self.box((pole.x, height + 0.12 + 0.3 * number, pole.z), (0.26, 0.26), colour, OBJECT)

    def sign(self, pole: Pole, height: float) -> None:
        """A round or an angular sign."""
        colour = self.pick(self.palette.signs)
        middle = (pole.x, height + 0.3, pole.z)
        if pole.tone < 0.5:
            self.disc(middle, 0.44, colour, OBJECT)
            self.disc(middle, 0.24, (240, 240, 236), OBJECT)
        else:
            self.diamond(middle, 0.5, colour)

    def diamond(self, middle: Point, radius: float, colour: Colour) -> None:
        """A sign that stands on a corner."""
        x, y, z = middle
        corners = [(x, y - radius, z), (x + radius, y, z), (x, y + radius, z), (x - radius, y, z)]
        self.quad(corners, colour, OBJECT)

    def person(self, person: Person) -> None:
        """Legs, body, head."""
        tall = person.tall
        x = person.x
        z = person.z
        trousers = self.pick(self.palette.trousers)
        for side in (-1, 1):
            self.box((x + side * 0.09, 0, z), (0.13, 0.5 * tall), trousers, HUMAN)
        self.box((x, 0.46 * tall, z), (0.4, 0.4 * tall), self.pick(self.palette.jackets), HUMAN)
        self.disc((x, 0.95 * tall, z), 0.12, self.pick(self.palette.skin), HUMAN)

    def vehicle(self, vehicle: Vehicle, x: float) -> None:
        """A car, a van or a truck, from behind or from the front."""
        if vehicle.kind == "truck":
            self.truck(vehicle, x)
        else:
            self.car(vehicle, x)

    def car(self, vehicle: Vehicle, x: float) -> None:
        """Wheels, body, cabin with its glass, and lamps; a van is higher."""
        z = vehicle.z
        van = vehicle.kind == "van"
        width, body, cabin = (1.35, 0.95, 0.75) if van else (1.25, 0.55, 0.44)
        paint = self.pick(self.palette.paints)
        self.wheels(x, z, width)
        self.box((x, 0.16, z), (width, body), paint, VEHICLE)
        top = 0.16 + body
        sides = [(-0.46, 0.0), (0.46, 0.0), (0.36, cabin), (-0.36, cabin)]
        self.quad([(x + width * dx, top + dy, z) for dx, dy in sides], paint, VEHICLE)
        glass = [(0.8 * dx, 0.08 + 0.8 * dy) for dx, dy in sides]
        self.quad([(x + width * dx, top + dy, z) for dx, dy in glass], (46, 56, 70), VEHICLE)
        self.lamps(vehicle, x, width, 0.16 + 0.55 * body)

    def truck(self, vehicle: Vehicle, x: float) -> None:
        """A high box on wheels, with its cab in front."""
        z = vehicle.z
        self.wheels(x, z, 1.5)
        self.box((x, 0.3, z), (1.5, 2.2), self.pick(self.palette.cargo), VEHICLE)
        if vehicle.oncoming:
            self.box((x, 0.2, z), (1.4, 1.4), self.pick(self.palette.paints), VEHICLE)
            self.box((x, 0.9, z), (1.2, 0.55), (46, 56, 70), VEHICLE)
        self.lamps(vehicle, x, 1.5, 0.4)

    def wheels(self, x: float, z: float, width: float) -> None:
        """A wheel on each side."""
        for side in (-1, 1):
            self.box((x + side * 0.4 * width, 0, z), (0.24, 0.34), (24, 24, 28), VEHICLE)

    def lamps(self, vehicle: Vehicle, x: float, width: float, height: float) -> None:
        """White lamps in front, red ones behind."""
        colour = (250, 244, 214) if vehicle.oncoming else (212, 40, 34)
        for side in (-1, 1):
            self.lit((x + side * 0.4 * width, height, vehicle.z), (0.22, 0.15), colour)

    def lit(self, foot: Point, size: tuple[float, float], colour: Colour) -> None:
        """A lamp of a vehicle."""
        self.box(foot, size, colour, VEHICLE)
