"""Label images drawn from polygons, as the tools of Cityscapes and IDD draw them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from muhdi.errors import DataError
from muhdi.files import read_json

BACKGROUND = "unlabeled"
"""What the data sets call pixels of no polygon."""
_GROUP = "group"
"""Ends the label of several objects that nobody has told apart, such as ``cargroup``."""
_LARGEST = 32768

_Points = list[tuple[float, float]]


@dataclass(frozen=True)
class PolygonIds:
    """The raw ids of a data set's labels by name.

    Attributes:
        ids: raw id, 0 to 255, by name; `BACKGROUND` is among them.
        undrawn: names whose polygons leave what lies below them.
    """

    ids: Mapping[str, int]
    undrawn: tuple[str, ...] = ()

    def draw(self, path: Path) -> npt.NDArray[np.uint8]:
        """The label image that a file of polygons describes, raw ids [H, W].

        Later polygons cover earlier ones, and a polygon holds its outline, as in cityscapesScripts
        (``json2labelImg.py``) and in IDD's public code. What has fewer than three corners is no
        polygon. These tools pass over a label that they do not know; here it is an error.

        Args:
            path: JSON with ``imgWidth``, ``imgHeight`` and ``objects``, each with a ``label`` and a
                ``polygon``.

        Raises:
            DataError: the file cannot be read or is none of polygons, or a label is unknown.
        """
        annotation = read_json(path)
        image = Image.new("L", _size(path, annotation), self.ids[BACKGROUND])
        canvas = ImageDraw.Draw(image)
        for name, points in _objects(path, annotation):
            known = self._known(path, name)
            if known not in self.undrawn and len(points) > 2:
                canvas.polygon(points, fill=self.ids[known])
        return np.asarray(image)

    def _known(self, path: Path, name: str) -> str:
        if name in self.ids:
            return name
        single = name.removesuffix(_GROUP)
        if single not in self.ids:
            raise DataError(
                f"{path}: the label {name!r} is none of the data set's; correct its name, or give"
                " label images"
            )
        return single


def _size(path: Path, annotation: Any) -> tuple[int, int]:
    """Width and height of the image that was labelled."""
    if isinstance(annotation, dict) and isinstance(annotation.get("objects"), list):
        width = annotation.get("imgWidth")
        height = annotation.get("imgHeight")
        if _is_a_side(width) and _is_a_side(height):
            return width, height
    raise DataError(
        f"{path}: is no file of polygons, with imgWidth, imgHeight and a list of objects; download"
        " it again"
    )


def _is_a_side(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 < value <= _LARGEST


def _objects(path: Path, annotation: Mapping[str, Any]) -> Iterator[tuple[str, _Points]]:
    """Label and corners of every object that has not been deleted."""
    for number, entry in enumerate(annotation["objects"]):
        try:
            if entry.get("deleted"):
                continue
            points = [(float(x), float(y)) for x, y in entry["polygon"]]
            if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
                raise ValueError
            yield str(entry["label"]), points
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DataError(
                f"{path}: objects.{number} must hold a 'label' and a 'polygon' of [x, y]; download"
                " the file again"
            ) from None
