"""Writing a commented recipe for your own folders, from what is found in them."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from muhdi.data.catalog import DataContext, open_split
from muhdi.errors import DataError, MuhdiError
from muhdi.preflight.survey import Survey, survey
from muhdi.recipe.load import load_recipe
from muhdi.recipe.methods import NEXT_STEP
from muhdi.taxonomy import IGNORE, MAX_CLASSES

WIDEST = 480
"""Pixels of width that a small network on a CPU is given."""
NAMES = ("classes.txt", "labels.txt", "names.txt")
"""Names of files that list classes, one per line by id; looked for in the source's folder."""


def new_recipe(source: Path, targets: Sequence[Path], name: str) -> str:
    """The text of a recipe.

    Args:
        source: folder of images and labels.
        targets: folders of images, in the order in which they come.
        name: of the run.

    Raises:
        DataError: a folder holds no images, or the source no labels that pair with them.
    """
    found = survey(source, labelled=True)
    others = [survey(target, labelled=False) for target in targets]
    lines = [
        f"# Made by muhdi new; look at it with: muhdi inspect {name}.yml",
        f"name: {name}",
        *_source_lines(source, found),
        *_TRAINING,
    ]
    if not targets:
        lines.append("steps: []")
        return "\n".join(lines) + "\n"
    lines.append("steps:")
    for target, other in zip(targets, others, strict=True):
        first, *rest = _domain(target, other, "      ")
        lines += ["  - target:", first, *rest]
    return "\n".join(lines) + "\n"


def _flow(section: dict[str, Any]) -> str:
    """A section in YAML, on one line."""
    text = yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.strip()


_TRAINING = (
    "# small is for a CPU; resnet50 and resnet101 want a GPU, and a file of pretrained weights as"
    " model.init.",
    "model: {backbone: small}",
    "optimizer: {name: adamw, head_factor: 1}",
    "augment: {crop: 0.5, flip: true, colour: 0.3}",
    "source_training: {iterations: 1500, batch_size: 4, learning_rate: 3e-3}",
    "# How every new place is learned without labels (adaptation), and how the old ones are kept"
    " (retention).",
    f"every_step: {_flow(NEXT_STEP)}",
    "# The new places, in the order in which they come. Those that have 'labels' and 'ids' too are"
    " scored.",
)
"""The lines of a recipe between the source and the steps."""


def _source_lines(source: Path, found: Survey) -> list[str]:
    """Classes, size and source."""
    classes, ids = _classes(source, found)
    width, height = found.size
    network_width, network_height = _network_size(found.size)
    lines = [
        "# The classes, in order. Give them names of your own, here and in 'ids'.",
        f"classes: [{', '.join(map(_yaml, classes))}]",
        f"# Width and height that the network sees; most images are {width}x{height}.",
        f"image_size: [{network_width}, {network_height}]",
        "# The labelled domain that the network learns first.",
        "source:",
        *_domain(source, found, "  "),
        "  # Raw id in the label images: class, or ignore. The comment is its share of the pixels.",
        "  ids:",
    ]
    for raw, share in found.ids.items():
        lines.append(f"    {raw}: {_yaml(ids[raw])}  # {100 * share:.2f} %")
    return lines


def _domain(folder: Path, found: Survey, indent: str) -> list[str]:
    """The lines of a folder's description."""
    lines = [
        "dataset: folder",
        f"name: {_yaml(Path(os.path.abspath(folder)).name)}",
        f"root: {_yaml(str(folder))}",
        f"images: {_yaml(found.images)}  # {found.count} images",
    ]
    if found.labels is not None:
        lines.append(f"labels: {_yaml(found.labels)}")
    if found.val is not None:
        images, labels = found.val
        lines.append(f"val_images: {_yaml(images)}")
        if labels is not None:
            lines.append(f"val_labels: {_yaml(labels)}")
    elif "{split}" not in found.images:
        lines.append(
            "# There are no folders train and val, so the same images serve for both; see"
            " val_images."
        )
    return [f"{indent}{line}" for line in lines]


def _classes(source: Path, found: Survey) -> tuple[list[str], dict[int, str]]:
    """Class names, and the class of every raw id that was found.

    Raises:
        DataError: there are too few or too many ids for classes.
    """
    raws = [raw for raw in found.ids if raw != IGNORE]
    if not 2 <= len(raws) <= MAX_CLASSES:
        raise DataError(
            f"{source}: its labels hold {len(raws)} ids besides {IGNORE}; labels of classes hold 2"
            f" to {MAX_CLASSES}, one id per pixel"
        )
    names = _listed_names(source)
    if names is not None and max(raws) < len(names):
        ids = {raw: names[raw] for raw in raws}
    else:
        names = [f"class_{raw}" for raw in raws]
        ids = dict(zip(raws, names, strict=True))
    if IGNORE in found.ids:
        ids[IGNORE] = "ignore"
    return names, ids


def _listed_names(source: Path) -> list[str] | None:
    """The class names in the first file of `NAMES` that exists, or None.

    Raises:
        DataError: it is not a list of class names.
    """
    for file in NAMES:
        path = source / file
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise DataError(
                f"{path}: not UTF-8 text; it must hold one class name per line"
            ) from None
        names = [line.strip() for line in lines if line.strip()]
        if len(names) < 2 or len(set(names)) < len(names):
            raise DataError(f"{path}: must hold two or more class names, each once, one per line")
        return names
    return None


def _network_size(size: tuple[int, int]) -> tuple[int, int]:
    """The images' aspect ratio, at even sizes that a small network on a CPU can take."""
    scale = min(1.0, WIDEST / size[0])
    width, height = (max(32, round(side * scale / 2) * 2) for side in size)
    return width, height


def _yaml(text: str) -> str:
    """A text in YAML, quoted if it must be."""
    try:
        plain = text[:1].isalpha() or text[:1] in "_./"
        if plain and "\n" not in text and yaml.safe_load(f"[{text}]") == [text]:
            return text
    except yaml.YAMLError:
        pass
    return json.dumps(text, ensure_ascii=False)


def check_recipe(text: str, file: str) -> None:
    """Load a recipe's text, which would be called ``file``, and open all its domains.

    Raises:
        RecipeError: the text is wrong.
        DataError: a domain cannot be opened.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_text(text, encoding="utf-8")
        recipe = load_recipe(path)
    context = DataContext.of(recipe)
    for key, data in recipe.domains():
        for split in ("train", "val"):
            try:
                open_split(data, split, context, labels=key == "source")
            except MuhdiError as error:
                raise DataError(f"{key}: {error}") from None
