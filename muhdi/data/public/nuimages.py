"""nuImages: photographs, and masks in tables of JSON.

Labels are drawn as the data set's own tools draw them: surfaces in the order of their table, then
objects in that of their tokens. The tables have to be in memory: by estimate 2 GB for the training
split.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muhdi.data.catalog import DataContext
from muhdi.data.files import FileSet
from muhdi.data.paths import expand_root
from muhdi.data.public.labels import label_table, raw_labels
from muhdi.data.public.sources import own_classes, whence
from muhdi.data.run_lengths import mask_of, read_runs
from muhdi.data.sets import ImageSet, Unlisted
from muhdi.errors import DataError, RecipeError
from muhdi.files import read_json
from muhdi.recipe.domains import NuImagesConfig
from muhdi.taxonomy import UNLISTED

ROOT = "data/nuimages"
"""Where the documentation puts the data set."""
_OBJECTS = "object_ann"
_TABLES = ("surface_ann", _OBJECTS)
"""The tables of masks, in the order in which they are drawn."""


class _Mask(NamedTuple):
    """A mask as the tables hold it.

    Attributes:
        raw: id of its label.
        size: height and width.
        text: lengths of runs, compressed and in base64.
    """

    raw: int
    size: tuple[int, int]
    text: str


@dataclass(frozen=True)
class AnnotatedLabels:
    """The labels of a split of nuImages.

    Attributes:
        paths: the tables that hold them.
        sizes: height and width of every image.
        masks: of every image, in the order of drawing.
        table: raw id -> label, see `muhdi.taxonomy.ClassSet.lookup`.
    """

    paths: list[Path]
    sizes: list[tuple[int, int]]
    masks: list[list[_Mask]]
    table: npt.NDArray[np.uint8]

    @cached_property
    def meaning(self) -> str:
        """A digest of all that turns the tables into classes."""
        return hashlib.sha256(self.table.tobytes()).hexdigest()

    def files(self, index: int) -> list[Path]:
        """The tables, whatever the image."""
        return self.paths

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], Unlisted]:
        """A label, uint8 [H, W]; nothing in it is unlisted.

        Raises:
            DataError: a mask is damaged, or of another size than its image.
        """
        ids = np.zeros(self.sizes[index], np.uint8)
        for raw, size, text in self.masks[index]:
            try:
                if size != self.sizes[index]:
                    raise DataError(f"a mask is {size[1]}x{size[0]}, its image another size")
                runs = read_runs(base64.b64decode(text, validate=True))
                ids[mask_of(runs, size)] = raw
            except (DataError, binascii.Error, ValueError) as error:
                raise DataError(f"{self.paths[0].parent}: {error}; download it again") from None
        return self.table[ids], {}


def open_nuimages(
    config: NuImagesConfig, split: str, context: DataContext, labels: bool
) -> ImageSet:
    """A split of nuImages: the photographs that have labels, with these if they are asked for.

    Raises:
        RecipeError: the recipe's classes share none with the data set.
        DataError: a table or a photograph is missing, or a table holds something else.
    """
    try:
        root = expand_root(context.root, ROOT if config.root is None else config.root)
    except DataError as error:
        raise DataError(f"{error}; {whence('nuimages')}") from None
    folder = root / (config.train if split == "train" else config.val)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder of tables is missing; correct the root, or {split}, the"
            f" version; {whence('nuimages')}"
        )
    shown = _photographs(folder, config)
    found = [root / entry["filename"] for entry in shown]
    _check_there(found)
    wanted = set(context.wanted(found))
    shown = [entry for entry, path in zip(shown, found, strict=True) if path in wanted]
    found = [path for path in found if path in wanted]
    images = FileSet(config.domain_name, found)
    if not labels:
        return images
    if not (folder / "object_ann.json").is_file():
        images.advice = f"add them; they were looked for as {folder / 'object_ann.json'}"
        return images
    return FileSet(config.domain_name, found, _labels(folder, shown, context))


def _photographs(folder: Path, config: NuImagesConfig) -> list[dict[str, Any]]:
    """The entries of the key frames of the chosen camera, in the order of their files."""
    prefix = "samples/CAM_" if config.camera is None else f"samples/CAM_{config.camera.upper()}/"
    found = []
    for entry in _table(folder, "sample_data", ("filename", "is_key_frame", "width", "height")):
        if entry["is_key_frame"] and str(entry["filename"]).startswith(prefix):
            found.append(entry)
    if not found:
        raise DataError(
            f"{folder / 'sample_data.json'}: names no photograph below {prefix}; choose another"
            " camera or version"
        )
    return sorted(found, key=lambda entry: str(entry["filename"]))


def _check_there(found: list[Path]) -> None:
    missing = [path for path in found if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"{missing[0]}: the image is missing ({len(missing)} of {len(found)} are); add"
            " samples/, or correct the root"
        )


def _labels(folder: Path, shown: list[dict[str, Any]], context: DataContext) -> AnnotatedLabels:
    """The labels of photographs."""
    table = label_table("nuimages", context.classes)
    if (table >= UNLISTED).all():
        raise RecipeError(
            f"classes: no label of nuimages is any of {', '.join(context.classes.classes)};"
            f" set classes: {own_classes('nuimages')}, or name the data set's own labels"
        )
    numbers = {label.name: label.id for label in raw_labels("nuimages")}
    ids = {}
    for entry in _table(folder, "category", ("name",)):
        if entry["name"] not in numbers:
            raise DataError(
                f"{folder / 'category.json'}: the category {entry['name']!r} is none of nuImages';"
                " download the tables again"
            )
        ids[entry["token"]] = numbers[entry["name"]]
    masks: dict[str, list[_Mask]] = defaultdict(list)
    wanted = {entry["token"] for entry in shown}
    for name in _TABLES:
        entries = _table(folder, name, ("sample_data_token", "category_token", "mask"))
        if name == _OBJECTS:
            entries = sorted(entries, key=lambda entry: str(entry["token"]))
        for entry in entries:
            # A box alone, or a surface that is not there, has no mask.
            if entry["mask"] is not None and entry["sample_data_token"] in wanted:
                masks[entry["sample_data_token"]].append(_mask(folder / f"{name}.json", entry, ids))
    return AnnotatedLabels(
        paths=[folder / f"{name}.json" for name in _TABLES],
        sizes=[(int(entry["height"]), int(entry["width"])) for entry in shown],
        masks=[masks[entry["token"]] for entry in shown],
        table=table,
    )


def _mask(path: Path, entry: dict[str, Any], ids: dict[str, int]) -> _Mask:
    try:
        height, width = entry["mask"]["size"]
        text = entry["mask"]["counts"]
        return _Mask(ids[entry["category_token"]], (int(height), int(width)), str(text))
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{path}: the entry {entry['token']!r} has no category and mask as nuImages' have;"
            " download the tables again"
        ) from None


def _table(folder: Path, name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """A table: entries that have a token and these keys."""
    path = folder / f"{name}.json"
    entries = read_json(path)
    wanted = {"token", *keys}
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and wanted <= entry.keys() for entry in entries
    ):
        raise DataError(
            f"{path}: is no table of nuImages, whose entries have {', '.join(sorted(wanted))};"
            " download it again"
        )
    return entries
