"""What scenes are drawn on: three canvases at once (colour, class, distance), and a camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from muhdi.data.scenes.styles import SKY
from muhdi.taxonomy import Colour

FAR = 40.0
"""Distance, in camera heights, from which on everything counts as equally far."""

Point = tuple[float, float, float]
Array = npt.NDArray[np.float32]


class Canvas:
    """The canvases of a scene in one-point perspective.

    A point is (x, y, z): metres-like units of one camera height, x to the right of the street's
    middle, y above the ground, z the distance (1 at the lower edge of the image).

    Args:
        rng: of the colours' variation.
        size: width and height in pixels of the canvas.
        horizon: where the ground ends, 0..1 of the height from above.
        vanish: where the street ends, 0..1 of the width from the left.
    """

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], horizon: float, vanish: float
    ) -> None:
        self.rng = rng
        self.w, self.h = size
        self.colour = Image.new("RGB", size)
        self.label = Image.new("L", size, SKY)
        self.distance = Image.new("L", size, 255)
        self.pens = [ImageDraw.Draw(canvas) for canvas in (self.colour, self.label, self.distance)]
        self.horizon = self.h * horizon
        self.vanish = self.w * vanish
        self.focal = self.h - self.horizon

    def project(self, point: Point) -> tuple[float, float]:
        """Where a point lies on the canvas."""
        x, y, z = point
        return self.vanish + self.focal * x / z, self.horizon + self.focal * (1 - y) / z

    def pick(self, colours: tuple[Colour, ...], spread: float = 12.0) -> Colour:
        """One of the colours, varied a little."""
        base = np.asarray(colours[self.rng.integers(len(colours))])
        brightness = self.rng.normal(0, spread)
        tint = self.rng.normal(0, spread / 3, 3)
        return clip(base + brightness + tint)

    def polygon(
        self, points: list[tuple[float, float]], colour: Colour, label: int, z: float
    ) -> None:
        """Fill a polygon on all canvases."""
        self.pens[0].polygon(points, fill=colour)
        self.pens[1].polygon(points, fill=label)
        self.pens[2].polygon(points, fill=depth(z))

    def ellipse(
        self, box: tuple[float, float, float, float], colour: Colour, label: int, z: float
    ) -> None:
        """Fill an ellipse on all canvases."""
        self.pens[0].ellipse(box, fill=colour)
        self.pens[1].ellipse(box, fill=label)
        self.pens[2].ellipse(box, fill=depth(z))

    def gradient(self, top: Colour, bottom: Colour, steps: int = 16) -> None:
        """The sky from its top to the horizon, in so many steps."""
        for i in range(steps):
            mix = i / (steps - 1)
            colour = clip((1 - mix) * np.asarray(top) + mix * np.asarray(bottom))
            y0 = self.horizon * i / steps
            self.pens[0].rectangle((0, y0, self.w, self.horizon + 2), fill=colour)

    def quad(self, points: Sequence[Point], colour: Colour, label: int) -> None:
        """Fill a polygon given by points of the scene."""
        corners = [self.project(point) for point in points]
        distance = float(np.mean([point[2] for point in points]))
        self.polygon(corners, colour, label, distance)

    def box(self, foot: Point, size: tuple[float, float], colour: Colour, label: int) -> None:
        """Fill an upright rectangle that faces the camera.

        Args:
            foot: the middle of its lower edge.
            size: width and height.
            colour: of the image.
            label: its class.
        """
        x, y, z = foot
        width, height = size
        left, top = self.project((x - width / 2, y + height, z))
        right, bottom = self.project((x + width / 2, y, z))
        # Thin things stay visible far away.
        right = max(right, left + 1.5)
        bottom = max(bottom, top + 1.5)
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, label, z)


def clip(colour: npt.NDArray[np.floating]) -> Colour:
    """A colour in 0..255, whole numbers."""
    r, g, b = np.clip(colour, 0, 255).astype(int).tolist()
    return r, g, b


def depth(z: float) -> int:
    """A distance in the canvas of distances; `FAR` is 255."""
    return int(min(255.0, 255.0 * z / FAR))


Light = tuple[float, float, float, Colour]
"""A lamp: x, y and radius on the canvas, and its colour."""


def spots(lights: Sequence[Light], height: int, width: int, scale: int) -> Array:
    """The light of lamps: a Gaussian spot each, [height, width, 3] in 0..255.

    Args:
        lights: on the canvas.
        height: of the image.
        width: of the image.
        scale: how many times larger the canvas is.
    """
    total = np.zeros((height, width, 3), np.float32)
    ys = np.arange(height, dtype=np.float32)
    xs = np.arange(width, dtype=np.float32)
    for x, y, radius, colour in lights:
        r = max(radius / scale, 1.0)
        fall_x = np.exp(-(((xs - x / scale) / r) ** 2)).astype(np.float32)
        fall_y = np.exp(-(((ys - y / scale) / r) ** 2)).astype(np.float32)
        total += (fall_y[:, None] * fall_x)[..., None] * np.asarray(colour, np.float32)
    return total


def soft_noise(rng: np.random.Generator, height: int, width: int) -> Array:
    """Noise of three scales, of mean 0 and deviation near 1."""
    total = rng.standard_normal((height, width), dtype=np.float32) * 0.5
    for cell in (4, 16):
        small = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
        large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(large) * 0.7
    return total
