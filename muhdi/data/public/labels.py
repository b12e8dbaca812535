"""What the labels of the public data sets mean: raw id -> name, colour and class.

The files in ``tables/`` list every raw id with its class among Cityscapes' 19 (``urban19``) and its
super-class (``urban7``) as published; Mapillary's two official lists hold names and colours alone,
and rules on the names say the rest, so that they hold for any ``config.json``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muhdi.errors import DataError
from muhdi.files import read_json
from muhdi.taxonomy import CLASS_SETS, IGNORE, RAW_IDS, UNLISTED, ClassSet, Colour

NONE = "ignore"
"""Stands for a class where a raw id has none."""
MAPILLARY_V1 = "mapillary_v1.2"
MAPILLARY_V2 = "mapillary_v2.0"


@dataclass(frozen=True)
class RawLabel:
    """One raw id of a data set.

    Attributes:
        id: the value in label images of raw ids.
        name: the data set's own.
        colour: RGB, in colour label images.
        urban19: its class among Cityscapes' 19, or `NONE`.
        urban7: its super-class as published, or `NONE`.
    """

    id: int
    name: str
    colour: Colour
    urban19: str = NONE
    urban7: str = NONE


Labels = tuple[RawLabel, ...]

_PUBLISHED_GTA5 = {"terrain": "flat", "caravan": NONE, "trailer": NONE}
"""Where GTA5's published super-classes differ from Cityscapes', whose ids it shares."""

_OF_CITYSCAPES = ("gta5", "acdc", "dark_zurich", "foggy_cityscapes", "rainy_cityscapes", "kitti")
_TABLES = {
    **dict.fromkeys(_OF_CITYSCAPES, "cityscapes"),
    **dict.fromkeys(("potsdam", "vaihingen"), "isprs"),
    "mapillary": MAPILLARY_V1,
}
"""The file of a data set in ``tables/``, where it has another name."""

_ROAD = ("road", "service-lane", "bike-lane", "crosswalk-plain", "road-shoulder")
_SIDEWALK = ("sidewalk", "pedestrian-area", "curb-cut", "traffic-island")
_FRONT = ("front", "direction-front", "temporary-front", "information-parking")
_VEHICLES = ("car", "truck", "bus", "motorcycle", "bicycle")
_MAPILLARY_URBAN19: dict[str, str] = {
    **{f"construction--flat--{part}": "road" for part in _ROAD},
    **{f"construction--flat--{part}": "sidewalk" for part in _SIDEWALK},
    # Cityscapes ignores the backs of signs.
    **{f"object--traffic-sign--{part}": "traffic sign" for part in _FRONT},
    **{f"object--vehicle--{part}": part for part in _VEHICLES},
    "marking": "road",
    "marking-only": "road",
    "object--pothole": "road",
    "object--manhole": "road",
    "object--catch-basin": "road",
    "construction--barrier--curb": "sidewalk",
    "construction--structure--building": "building",
    "construction--structure--garage": "building",
    "construction--barrier--wall": "wall",
    "construction--barrier--fence": "fence",
    "object--support--pole": "pole",
    "object--support--utility-pole": "pole",
    "object--traffic-light": "traffic light",
    "nature--vegetation": "vegetation",
    "nature--terrain": "terrain",
    "nature--sky": "sky",
    "human--person": "person",
    "human--rider": "rider",
    "object--vehicle--on-rails": "train",
}
"""A label has the class of the longest of these that its name begins with.

What Cityscapes ignores (parking, rail tracks, guard rails, bridges, tunnels, groups of poles, other
vehicles) is ignored here too.
"""

_MAPILLARY_URBAN7: dict[str, str] = {
    "construction--flat": "flat",
    "marking": "flat",
    "marking-only": "flat",
    "nature--terrain": "flat",
    "construction--barrier": "construction",
    "construction--structure": "construction",
    "object--pothole": "object",
    "object--street-light": "object",
    "object--support": "object",
    "object--traffic-light": "object",
    "object--traffic-sign": "object",
    "nature--vegetation": "nature",
    "nature--sky": "sky",
    "human": "human",
    "object--vehicle": "vehicle",
}


def _by_prefix(name: str, rules: Mapping[str, str]) -> str:
    parts = name.split("--")
    for count in range(len(parts), 0, -1):
        beginning = "--".join(parts[:count])
        if beginning in rules:
            return rules[beginning]
    return NONE


def mapillary_label(raw: int, name: str, colour: Colour) -> RawLabel:
    """A label of Mapillary Vistas, of any version."""
    urban19 = _by_prefix(name, _MAPILLARY_URBAN19)
    urban7 = _by_prefix(name, _MAPILLARY_URBAN7)
    return RawLabel(raw, name, colour, urban19, urban7)


@cache
def raw_labels(dataset: str) -> Labels:
    """Every raw id that a data set defines.

    Args:
        dataset: a key of `muhdi.data.public.known.LAYOUTS`, ``mapillary_v1.2`` (which
            ``mapillary`` is too) or ``mapillary_v2.0``.
    """
    file = f"{_TABLES.get(dataset, dataset)}.csv"
    table = resources.files("muhdi") / "data" / "tables" / file
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    labels = []
    for position, row in enumerate(rows):
        name = row["name"]
        colour = int(row["red"]), int(row["green"]), int(row["blue"])
        if "id" in row:
            label = RawLabel(int(row["id"]), name, colour, row["urban19"], row["urban7"])
        else:
            label = mapillary_label(position, name, colour)
        if dataset == "gta5" and name in _PUBLISHED_GTA5:
            label = replace(label, urban7=_PUBLISHED_GTA5[name])
        labels.append(label)
    return tuple(labels)


def read_mapillary_config(path: Path) -> Labels:
    """The labels that Mapillary's ``config.json`` lists, in the order of their ids.

    Raises:
        DataError: the file cannot be read, or holds no such list.
    """
    config = read_json(path)
    entries = config.get("labels") if isinstance(config, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= RAW_IDS:
        raise DataError(
            f"{path}: has no list 'labels'; put Mapillary's own config there, or remove the file"
        )
    return tuple(_config_label(path, raw, entry) for raw, entry in enumerate(entries))


def _config_label(path: Path, raw: int, entry: Any) -> RawLabel:
    try:
        red, green, blue = (int(value) for value in entry.get("color", (0, 0, 0)))
        name = entry["name"]
        if not isinstance(name, str) or not all(0 <= value <= 255 for value in (red, green, blue)):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise DataError(
            f"{path}: labels.{raw} must hold a 'name' and a 'color' of three numbers, as"
            " Mapillary's own config does"
        ) from None
    return mapillary_label(raw, name, (red, green, blue))


def class_of(label: RawLabel, classes: ClassSet) -> str:
    """The class of a raw id, or `NONE`.

    The first of its name, its urban19 and its super-class that is in the set.

    The super-class is the published one in the class set ``urban7``, and in all others the
    consistent one: terrain is nature, caravans and trailers are vehicles, in every data set.
    """
    urban7 = label.urban7
    if classes.name != "urban7":
        if label.urban19 == "terrain":
            urban7 = "nature"
        if label.name in ("caravan", "trailer"):
            urban7 = "vehicle"
    for name in (label.name, label.urban19, urban7):
        if name != NONE and name in classes.classes:
            return name
    return NONE


def label_table(
    dataset: str, classes: ClassSet, labels: Labels | None = None, *, train_ids: bool = False
) -> npt.NDArray[np.uint8]:
    """Table from raw id to label, uint8 [65536], in the format of `muhdi.taxonomy.ClassSet.lookup`.

    Args:
        dataset: see `raw_labels`.
        classes: the classes of the table.
        labels: what the data set defines, where that is not `raw_labels` of its name.
        train_ids: raw ids are positions among the 19 classes, and 255.

    Returns:
        Labels; 255 for an id without a class, `UNLISTED` for one that the data set does not define.
    """
    labels = raw_labels(dataset) if labels is None else labels
    if train_ids:
        return classes.lookup(_train_ids(labels, classes) | {IGNORE: NONE})
    table = np.full(RAW_IDS, UNLISTED, np.uint8)
    for label in labels:
        name = class_of(label, classes)
        table[label.id] = IGNORE if name == NONE else classes.index(name)
    return table


def _train_ids(labels: Sequence[RawLabel], classes: ClassSet) -> dict[int, str]:
    """Train id -> class, by the same rules.

    A train id stands for the raw id that has its name, else its class.
    """
    table = {}
    for position, name in enumerate(CLASS_SETS["urban19"].classes):
        raw = RawLabel(position, name, (0, 0, 0), name)
        same = [label for label in labels if label.urban19 == name]
        if same:
            raw = min(same, key=lambda label: label.name != name)
        table[position] = class_of(replace(raw, name=name), classes)
    return table


def colour_ids(labels: Sequence[RawLabel], table: npt.NDArray[np.uint8]) -> dict[Colour, int]:
    """Colour -> raw id.

    If several share a colour, the first that has a class in ``table``, else the first.
    """
    ids: dict[Colour, int] = {}
    # The sort is stable: ids with a class come first, each group in the data set's order.
    for label in sorted(labels, key=lambda label: bool(table[label.id] == IGNORE)):
        ids.setdefault(label.colour, label.id)
    return ids
