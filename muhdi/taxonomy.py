"""Class sets, and the tables that map a data set's raw label ids to the classes of a set."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from muhdi.errors import RecipeError, nearest

if TYPE_CHECKING:
    from PIL import Image

IGNORE = 255
"""The label of a pixel that takes part in no loss and no score."""

UNLISTED = 254
"""Marks, inside a lookup table only, a raw id that the table does not list."""

MAX_CLASSES = 200
"""Labels from here on mark pixels (255) or ids (254)."""
RAW_IDS = 65536
"""Raw ids are 8 or 16 bit."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


def hex_colour(colour: Colour) -> str:
    """A colour as ``#rrggbb``."""
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def parsed_colour(text: str) -> Colour:
    """The colour that ``#rrggbb`` stands for."""
    red, green, blue = (int(text[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue


@dataclass(frozen=True)
class ClassSet:
    """An ordered set of classes. A label image holds the position of its class, or `IGNORE`.

    Args:
        name: what recipes call the set.
        classes: class names, in order.
        colours: one RGB colour (0-255) per class.
        things: the classes that are countable objects; empty: nobody has said.
    """

    name: str
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    things: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.classes)

    def index(self, name: str) -> int:
        """Position of the class ``name``.

        Raises:
            RecipeError: there is none; the message has the nearest name.
        """
        if name not in self.classes:
            hint = nearest(name, list(self.classes))
            raise RecipeError(
                f"unknown class {name!r} in class set {self.name!r}{hint} (classes:"
                f" {', '.join(self.classes)})"
            )
        return self.classes.index(name)

    def palette(self) -> npt.NDArray[np.uint8]:
        """Colours by label, uint8 [256, 3]; ignored pixels are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colours
        return palette

    def hex_colours(self) -> list[str]:
        """Colours by class, as ``#rrggbb``."""
        return [hex_colour(colour) for colour in self.colours]

    def palette_image(self, label: npt.NDArray[np.uint8]) -> Image.Image:
        """A label, uint8 [H, W], as an image that shows the classes' colours and holds their ids.

        Saved as a PNG it stays a label image: one id per pixel.
        """
        from PIL import Image

        image = Image.fromarray(label)
        image.putpalette(self.palette().flatten().tolist())
        return image

    def lookup(self, ids: Mapping[int, str] | None) -> npt.NDArray[np.uint8]:
        """Table from raw id to label, uint8 [65536].

        Args:
            ids: raw id -> class name or ``ignore``. None: a raw id is the class position, 255 is
                ignored.

        Returns:
            Labels; an id that is not listed has the value `UNLISTED`, for the reader to count and
            to ignore.

        Raises:
            RecipeError: an id is out of range, or a class is not in the set.
        """
        table = np.full(RAW_IDS, UNLISTED, np.uint8)
        if ids is None:
            table[: len(self)] = np.arange(len(self))
            table[IGNORE] = IGNORE
            return table
        for raw, name in ids.items():
            if not 0 <= raw < RAW_IDS:
                raise RecipeError(
                    f"raw id {raw} is out of range: label images hold ids from 0 to {RAW_IDS - 1}"
                )
            table[raw] = IGNORE if name == "ignore" else self.index(name)
        return table


def custom(names: list[str]) -> ClassSet:
    """A class set of your own, with colours spread evenly over the colour circle."""
    colours = []
    for index in range(len(names)):
        # Neighbours on the circle differ in saturation and value too.
        saturation = 0.55 + 0.4 * (index % 2)
        value = 0.95 - 0.3 * (index % 3) / 2
        red, green, blue = colorsys.hsv_to_rgb(index / len(names), saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return ClassSet("custom", tuple(names), tuple(colours))


_CITYSCAPES: dict[str, Colour] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
_NOT_IN_SYNTHIA = ("terrain", "truck", "train")
_THINGS: tuple[str, ...] = (
    "object",
    "human",
    "vehicle",
    "traffic light",
    "traffic sign",
    "person",
    "rider",
    "car",
)
_THINGS += ("truck", "bus", "train", "motorcycle", "bicycle")
_THINGS += ("traffic-light", "traffic-sign", "on-rails")  # as RailSem19 writes them
_URBAN7: dict[str, Colour] = {
    "flat": (128, 64, 128),
    "construction": (70, 70, 70),
    "object": (220, 220, 0),
    "nature": (107, 142, 35),
    "sky": (70, 130, 180),
    "human": (220, 20, 60),
    "vehicle": (0, 0, 142),
}

_RAIL19: dict[str, Colour] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "construction": (70, 70, 70),
    "tram-track": (192, 0, 128),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic-light": (250, 170, 30),
    "traffic-sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "human": (220, 20, 60),
    "rail-track": (230, 150, 140),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "trackbed": (90, 40, 40),
    "on-rails": (0, 80, 100),
    "rail-raised": (0, 254, 254),
    "rail-embedded": (0, 68, 63),
}
_COMMA5: dict[str, Colour] = {
    "road": (64, 32, 32),
    "lane markings": (255, 0, 0),
    "undrivable": (128, 128, 96),
    "movable": (0, 255, 102),
    "my car": (204, 0, 255),
}
_LOVEDA7: dict[str, Colour] = {
    "background": (255, 255, 255),
    "building": (255, 0, 0),
    "road": (255, 255, 0),
    "water": (0, 0, 255),
    "barren": (159, 129, 183),
    "forest": (0, 255, 0),
    "agriculture": (255, 195, 128),
}
_ISPRS6: dict[str, Colour] = {
    "impervious surface": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}


def _set(name: str, colours: dict[str, Colour]) -> ClassSet:
    things = tuple(each for each in colours if each in _THINGS)
    return ClassSet(name, tuple(colours), tuple(colours.values()), things)


CLASS_SETS: dict[str, ClassSet] = {
    "urban7": _set("urban7", _URBAN7),
    "urban7c": _set("urban7c", _URBAN7),
    "urban16": _set("urban16", {k: v for k, v in _CITYSCAPES.items() if k not in _NOT_IN_SYNTHIA}),
    "urban19": _set("urban19", _CITYSCAPES),
    "rail19": _set("rail19", _RAIL19),
    "comma5": _set("comma5", _COMMA5),
    "loveda7": _set("loveda7", _LOVEDA7),
    "isprs6": _set("isprs6", _ISPRS6),
}
"""The class sets of the field.

7 super-classes, the 16 that SYNTHIA shares with Cityscapes, Cityscapes' 19; and the classes of
RailSem19, comma10k, LoveDA and the ISPRS benchmarks, which no set of the street holds.

``urban7`` groups raw ids as it was published, each data set a little differently; ``urban7c`` has
the same classes and groups the nineteen of Cityscapes alike everywhere. `muhdi.data.public.labels`
holds the tables.
"""


def class_set_of(classes: Sequence[str]) -> ClassSet:
    """The known class set of exactly these classes, or a custom one."""
    for known in CLASS_SETS.values():
        if known.classes == tuple(classes):
            return known
    return custom(list(classes))
