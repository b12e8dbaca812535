"""The recipe of a demo on one's own folders: small and quick, from what is found in them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.paths import subfolders
from muhdi.errors import DataError, MuhdiError
from muhdi.preflight.new import new_recipe
from muhdi.preflight.survey import survey
from muhdi.recipe.domains import FolderConfig
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe

FEWEST = 2
MOST = 3
"""Folders that a demo takes: the source and one or two new places."""
WIDEST = 240
"""Pixels of width that the network sees; training sees crops of half of that."""
QUICK = (
    "source_training.iterations=350",
    "every_step.iterations=75",
    "evaluation.statistics=[blend]",
    "evaluation.default=blend",
)
"""What keeps it within minutes."""


def demo_recipe(folder: Path, settings: Sequence[str] = ()) -> tuple[Recipe, list[str]]:
    """A recipe on the folders in a folder, and notes for the user.

    The source is the folder with labels; where several have some, one whose name says source, or
    else the first by name. The others are new places, in the order of their names. Labels that
    such a place has in the layout of the source's score it, and are not trained on.

    Args:
        folder: holds two or three folders of images.
        settings: ``key=value`` changes.

    Raises:
        MuhdiError: it holds other than two or three folders, none of them has labels, or a setting
            is wrong.
    """
    source, *targets = _source_first(folder)
    text, notes = new_recipe(source, targets, folder.resolve().name)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "demo.yml"
        path.write_text(text, encoding="utf-8")
        found = load_recipe(path)
        own = [*QUICK, _image_size(found), *_labels(found)]
        recipe = load_recipe(path, [*own, *settings])
    return recipe, [f"{source.name}: the source, whose labels are learned", *notes]


def _source_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"--real {folder}: the folder does not exist; correct the path")
    found = sorted(path.resolve() for path in subfolders(folder))
    if not FEWEST <= len(found) <= MOST:
        raise DataError(
            f"--real {folder}: holds {len(found)} folders, but a demo takes {FEWEST} or {MOST}: one"
            " of images and labels, and one or two of images of new places"
        )
    labelled = [path for path in found if _has_labels(path)]
    if not labelled:
        survey(found[0], labelled=True)  # says what is missing
    named = [path for path in labelled if "source" in path.name.lower()]
    source = (named or labelled)[0]
    return [source, *(path for path in found if path != source)]


def _has_labels(folder: Path) -> bool:
    try:
        survey(folder, labelled=True)
    except DataError:
        return False
    return True


def _image_size(recipe: Recipe) -> str:
    """A smaller size of the same aspect ratio, in even numbers."""
    width, height = recipe.image_size
    scale = min(1.0, WIDEST / width)
    return f"image_size=[{round(width * scale / 2) * 2}, {round(height * scale / 2) * 2}]"


def _labels(recipe: Recipe) -> list[str]:
    """Settings with the labels of the targets whose evaluation has them where the source's are."""
    source = recipe.source
    assert isinstance(source, FolderConfig)
    context = DataContext.of(recipe)
    settings = []
    for number, step in enumerate(recipe.steps):
        for place, target in step.keyed_domains(f"steps.{number}"):
            key = "masks" if source.masks else "labels"
            value = getattr(source, key)
            candidate = target.model_copy(update={key: value, "val_labels": source.val_labels})
            try:
                labelled = open_split(candidate, "val", context).labelled
            except MuhdiError:
                continue
            if labelled:
                settings.append(f"{place}.{key}={json.dumps(value)}")
                if source.val_labels is not None:
                    value = json.dumps(source.val_labels)
                    settings.append(f"{place}.val_labels={value}")
    return settings
