"""Built-in street scenes: drawn, labelled, deterministic by seed, and no file needed.

A scene is a street in one-point perspective. The first edition is drawn here, in the look of a
`Style`, at twice the size, on three canvases at once (colour, class, distance), and then reduced.
The second edition is in `muhdi.data.scenes.looks`.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from muhdi.data.scenes.canvas import FAR, Array, Canvas, Light, clip, soft_noise, spots
from muhdi.data.scenes.looks import LOOKS, draw_street
from muhdi.data.scenes.styles import (
    CONSTRUCTION,
    FLAT,
    HUMAN,
    NATURE,
    OBJECT,
    STYLES,
    VEHICLE,
    Range,
    Style,
)
from muhdi.taxonomy import Colour

SCALE = 2
"""Everything is drawn this much larger than the image."""


class _Street(Canvas):
    """One scene while it is drawn: the objects from far to near."""

    def __init__(self, style: Style, rng: np.random.Generator, width: int, height: int) -> None:
        horizon = rng.uniform(*style.horizon)
        vanish = rng.uniform(0.38, 0.62)
        super().__init__(rng, (SCALE * width, SCALE * height), horizon, vanish)
        self.style = style
        self.road = rng.uniform(*style.road)
        self.kerb = self.road + rng.uniform(*style.pavement)
        self.lights: list[Light] = []

    def backdrop(self) -> None:
        """Sky, far hills, ground, pavement, road and its markings."""
        style = self.style
        rng = self.rng
        top, bottom = style.skies[rng.integers(len(style.skies))]
        self.gradient(top, bottom, steps=12)
        xs = np.linspace(0, self.w, 7)
        hills = [(float(x), self.horizon - self.h * float(rng.uniform(0.0, 0.07))) for x in xs]
        far = [(float(self.w), self.horizon + 2), (0.0, self.horizon + 2)]
        self.polygon(hills + far, self.pick(style.greens), NATURE, 30)
        ground = self.pick(style.grounds)
        near = self.horizon + 0.12 * self.focal
        nearer = self.horizon + 0.4 * self.focal
        edges = [self.horizon, near, nearer, self.h]
        for y0, y1 in itertools.pairwise(edges):
            z = self.focal / max((y0 + y1) / 2 - self.horizon, 1)
            self.polygon([(0, y0), (self.w, y0), (self.w, y1 + 1), (0, y1 + 1)], ground, NATURE, z)
        pavement = self.pick(style.pavements)
        road = self.pick(style.roads, 8)
        self.ground_strip(-self.kerb, self.kerb, pavement)
        self.ground_strip(-self.road, self.road, road)
        fresh = rng.uniform(*style.marking)
        white = clip(np.asarray(road) * (1 - fresh) + 235 * fresh)
        offset = rng.uniform(0, 2)
        for z in np.arange(0.6 + offset, 16, 2.6):
            dash = [(-0.09, 0, z), (0.09, 0, z), (0.09, 0, z + 1.3), (-0.09, 0, z + 1.3)]
            self.quad(dash, white, FLAT)
        if rng.random() < 0.6:
            for side in (-1, 1):
                x = side * (self.road - 0.25)
                line = [(x, 0, 0.5), (x + 0.12, 0, 0.5), (x + 0.12, 0, 30), (x, 0, 30)]
                self.quad(line, white, FLAT)

    def ground_strip(self, left: float, right: float, colour: Colour) -> None:
        """A strip of flat ground from the camera to far away, in pieces with a distance each."""
        for z0, z1 in ((0.5, 1.5), (1.5, 3), (3, 6), (6, 12), (12, FAR)):
            self.quad([(left, 0, z0), (right, 0, z0), (right, 0, z1), (left, 0, z1)], colour, FLAT)

    def building(self, side: int, near: float, far: float) -> None:
        """A block next to the street: the wall along it, and the end that faces the camera."""
        rng = self.rng
        style = self.style
        storeys = int(rng.uniform(style.storeys[0], style.storeys[1] + 1))
        height = 2.1 * storeys + 0.6
        x = side * (self.kerb + rng.uniform(0.0, 0.8))
        depth = side * rng.uniform(4, 9)
        wall = self.pick(style.walls)
        shade = clip(np.asarray(wall) * 0.82)
        back = x + depth
        end = [(x, 0, near), (back, 0, near), (back, height, near), (x, height, near)]
        self.quad(end, wall, CONSTRUCTION)
        along = [(x, 0, near), (x, 0, far), (x, height, far), (x, height, near)]
        self.quad(along, shade, CONSTRUCTION)
        if near <= 14:  # farther away windows would be smaller than a pixel
            for storey in range(storeys):
                self.windows(storey, x, depth, (near, far))

    def windows(self, storey: int, x: float, depth: float, zs: Range) -> None:
        """The windows of one storey, on the wall along the street and on the end of a building.

        Args:
            storey: 0 is the ground floor.
            x: of the wall along the street.
            depth: from there to the back of the building; its sign is the side of the street.
            zs: where the wall begins and ends.
        """
        near, far = zs
        bottom = 0.7 + 2.1 * storey
        top = 1.9 + 2.1 * storey
        columns = max(2, int((far - near) * 0.8))
        for column in range(columns):
            z0 = near + (far - near) * (column + 0.25) / columns
            z1 = near + (far - near) * (column + 0.75) / columns
            wall = [(x, bottom, z0), (x, bottom, z1), (x, top, z1), (x, top, z0)]
            self.quad(wall, self.pane(), CONSTRUCTION)
        for column in range(2):
            x0 = x + depth * (0.12 + 0.45 * column)
            x1 = x0 + depth * 0.2
            end = [(x0, bottom, near), (x1, bottom, near), (x1, top, near), (x0, top, near)]
            self.quad(end, self.pane(), CONSTRUCTION)

    def pane(self) -> Colour:
        """The colour of one window."""
        if self.rng.random() < self.style.lit:
            return _LIT
        return self.pick((self.style.window,), 8)

    def tree(self, x: float, z: float) -> None:
        """A trunk and a crown of overlapping discs, or a bush."""
        rng = self.rng
        bush = rng.random() < 0.3
        size = rng.uniform(0.4, 0.8) if bush else rng.uniform(1.1, 2.0)
        base = size * 0.6 if bush else rng.uniform(2.0, 3.4)
        if not bush:
            self.box((x, 0, z), (0.22, base), self.pick(((92, 70, 52),)), NATURE)
        green = self.pick(self.style.greens)
        for _ in range(6):
            dx = rng.normal(0, 0.45 * size)
            dy = rng.normal(0, 0.3 * size)
            radius = size * rng.uniform(0.5, 0.8)
            cx, cy = self.project((x + dx, base + size * 0.4 + dy, z))
            r = self.focal * radius / z
            shade = clip(np.asarray(green) * rng.uniform(0.8, 1.15))
            self.ellipse((cx - r, cy - 0.9 * r, cx + r, cy + 0.9 * r), shade, NATURE, z)

    def pole(self, x: float, z: float) -> None:
        """A street lamp, a traffic light or a sign."""
        rng = self.rng
        grey = self.pick(((110, 112, 114), (70, 72, 74)))
        kind = rng.integers(3)
        height = (4.6, 3.2, 2.6)[kind]
        self.box((x, 0, z), (0.17, height), grey, OBJECT)
        inwards = -1 if x > 0 else 1
        if kind == 0:
            self.box((x + inwards * 0.5, height, z), (1.1, 0.12), grey, OBJECT)
            lamp = self.project((x + inwards * 0.9, height, z))
            if self.style.night:
                self.lights.append((*lamp, self.focal * 1.4 / z, (255, 196, 120)))
        elif kind == 1:
            self.box((x, height, z), (0.42, 1.0), (36, 38, 40), OBJECT)
            colour = ((220, 40, 30), (240, 180, 40), (40, 200, 90))[rng.integers(3)]
            lamp_height = height + rng.uniform(0.1, 0.6)
            self.box((x, lamp_height, z), (0.26, 0.26), colour, OBJECT)
        else:
            colour = self.pick(((200, 40, 40), (40, 80, 190), (235, 235, 230), (235, 190, 50)))
            cx, cy = self.project((x, height + 0.3, z))
            r = max(self.focal * 0.42 / z, 1.5)
            if rng.random() < 0.5:
                self.ellipse((cx - r, cy - r, cx + r, cy + r), colour, OBJECT, z)
            else:
                self.polygon(
                    [(cx, cy - r), (cx + r, cy), (cx, cy + r), (cx - r, cy)], colour, OBJECT, z
                )

    def person(self, x: float, z: float) -> None:
        """Legs, body, head."""
        tall = self.rng.uniform(0.95, 1.2)
        trousers = self.pick(((50, 54, 70), (72, 62, 54), (40, 40, 44)))
        for side in (-1, 1):
            self.box((x + side * 0.09, 0, z), (0.13, 0.5 * tall), trousers, HUMAN)
        jacket = self.pick(self.style.clothes, 18)
        self.box((x, 0.46 * tall, z), (0.38, 0.4 * tall), jacket, HUMAN)
        cx, cy = self.project((x, 0.93 * tall, z))
        r = max(self.focal * 0.11 / z, 1.0)
        skin = self.pick(((212, 166, 136), (140, 96, 72)))
        self.ellipse((cx - r, cy - r, cx + r, cy + r), skin, HUMAN, z)

    def car(self, x: float, z: float) -> None:
        """A car or, seldom, a van, from behind or from the front, with wheels, glass and lamps."""
        rng = self.rng
        van = rng.random() < 0.2
        width, body, cabin = (1.35, 0.95, 0.75) if van else (1.25, 0.55, 0.42)
        paint = self.pick(self.style.cars_colours)
        for side in (-1, 1):
            self.box((x + side * 0.42 * width, 0, z), (0.22, 0.3), (24, 24, 26), VEHICLE)
        self.box((x, 0.16, z), (width, body), paint, VEHICLE)
        top = 0.16 + body
        sides = [(-0.46, 0.0), (0.46, 0.0), (0.36, cabin), (-0.36, cabin)]
        self.quad([(x + width * dx, top + dy, z) for dx, dy in sides], paint, VEHICLE)
        glass = [(0.8 * dx, 0.08 + 0.8 * dy) for dx, dy in sides]
        self.quad([(x + width * dx, top + dy, z) for dx, dy in glass], (46, 56, 68), VEHICLE)
        from_behind = x > 0
        lamp = (210, 40, 34) if from_behind else (250, 244, 214)
        for side in (-1, 1):
            lamp_x = x + side * 0.4 * width
            self.box((lamp_x, 0.16 + 0.55 * body, z), (0.2, 0.14), lamp, VEHICLE)
            if self.style.night:
                cx, cy = self.project((lamp_x, 0.16 + 0.6 * body, z))
                radius = 0.3 if from_behind else 0.45
                self.lights.append((cx, cy, self.focal * radius / z, lamp))

    def populate(self) -> None:
        """Buildings on both sides, then everything else from far to near."""
        rng = self.rng
        style = self.style
        things: list[tuple[float, Callable[[], None]]] = []
        for side in (-1, 1):
            z = rng.uniform(1.2, 3.0)
            while z < 30:
                far = z + rng.uniform(2.5, 6.0) * (1 + z / 12)
                if rng.random() < style.built:
                    things.append((far, _bind(self.building, side, z, far)))
                gap = rng.uniform(0.5, 3.0) if rng.random() < 0.4 else 0.0
                z = far + gap

        def next_to_road(out: Range) -> float:
            return float(rng.choice((-1, 1)) * (self.road + rng.uniform(*out)))

        for kind, count, out in (
            (self.tree, style.trees, (0.7, 5.0)),
            (self.pole, style.poles, (0.15, 0.8)),
        ):
            for _ in range(rng.poisson(count)):
                z = rng.uniform(2.0, 12.0)
                things.append((z, _bind(kind, next_to_road(out), z)))
        for _ in range(rng.poisson(style.people)):
            z = rng.uniform(2.2, 9.0)
            things.append((z, _bind(self.person, next_to_road((-0.3, 1.4)), z)))
        for _ in range(rng.poisson(style.cars)):
            z = float(np.exp(rng.uniform(np.log(2.2), np.log(16))))
            x = float(rng.choice((-1, 1))) * self.road * rng.uniform(0.3, 0.85)
            things.append((z, _bind(self.car, x, z)))
        for _, draw in sorted(things, key=lambda thing: -thing[0]):
            draw()


_LIT: Colour = (255, 214, 120)


def _bind(draw: Callable[..., None], *arguments: object) -> Callable[[], None]:
    return lambda: draw(*arguments)


def _expose(street: _Street, image: Array, distance: Array) -> Array:
    """From the drawn scene to what the domain's camera sees. ``distance`` in 0..1."""
    style = street.style
    rng = street.rng
    height, width = distance.shape
    noise = soft_noise(rng, height, width)[..., None]
    # The sky and what is far away have less texture.
    image = image + style.texture * noise * (0.35 + 0.65 * (distance < 0.8)[..., None])
    grey = image.mean(2, keepdims=True)
    image = grey + style.saturation * (image - grey)
    haze = 1 - (1 - style.veil) * np.exp(-rng.uniform(*style.haze) * 5 * distance)[..., None]
    image = image * (1 - haze) + np.asarray(style.haze_colour, np.float32) * haze
    if rng.random() < style.shadows:
        edge = rng.uniform(0.2, 0.8) * width + rng.normal(0, 0.3) * np.arange(height)[:, None]
        dark = np.where(np.arange(width)[None] < edge, rng.uniform(0.55, 0.8), 1.0)
        image = image * dark[..., None].astype(np.float32)
    image = image * rng.uniform(*style.gain) * np.asarray(style.tint, np.float32)
    return _lit_up(street, image) if style.night else image


def _lit_up(street: _Street, image: Array) -> Array:
    """At night: the car's own headlights, the glow of lamps, and windows with light."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x = street.vanish / SCALE
    y = height * 1.02
    beam = np.exp(-(((columns - x) / (0.32 * width)) ** 2) - ((rows - y) / (0.42 * height)) ** 2)
    image = image * (1 + 1.3 * beam[..., None]) + 0.55 * spots(street.lights, height, width, SCALE)
    # Windows keep the colour that they were drawn in, whatever the exposure has made of it.
    drawn = street.colour.resize((width, height), Image.Resampling.NEAREST)
    difference = np.abs(np.asarray(drawn, np.float32) - _LIT).sum(2)
    return np.where((difference < 6)[..., None], np.asarray(_LIT, np.float32) * 0.85, image)


def _sensor(style: Style, rng: np.random.Generator, image: Array) -> npt.NDArray[np.uint8]:
    """Rain, blur and noise."""
    height, width = image.shape[:2]
    drawn = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    if style.streaks:
        pen = ImageDraw.Draw(drawn)
        slant = rng.normal(0, 0.15)
        for _ in range(rng.poisson(style.streaks)):
            x = rng.uniform(0, width)
            y = rng.uniform(0, height)
            length = rng.uniform(2, 7)
            pen.line((x, y, x + slant * length, y + length), fill=(136, 146, 164))
    radius = rng.uniform(*style.blur)
    if radius:
        drawn = drawn.filter(ImageFilter.GaussianBlur(radius))
    sigma = rng.uniform(*style.noise)
    noise = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(sigma)
    return np.clip(np.asarray(drawn, np.float32) + noise, 0, 255).astype(np.uint8)


def draw_scene(
    domain: str, seed: tuple[int, ...], size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """One scene.

    Args:
        domain: a key of `STYLES`, or of `LOOKS`.
        seed: any integers >= 0; the same ones give the same scene.
        size: width and height in pixels.

    Returns:
        Image, uint8 RGB [height, width, 3], and label, uint8 [height, width], positions in
        `CLASSES`.
    """
    if domain in LOOKS:
        return draw_street(domain, seed, size)
    style = STYLES[domain]
    rng = np.random.default_rng([zlib.crc32(domain.encode()), *seed])
    width, height = size
    street = _Street(style, rng, width, height)
    street.backdrop()
    street.populate()
    label = np.asarray(street.label)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].copy()
    distance = np.asarray(street.distance.reduce(SCALE), np.float32) / np.float32(255)
    image = np.asarray(street.colour.reduce(SCALE), np.float32)
    return _sensor(style, rng, _expose(street, image, distance)), label
