"""The data sets: one entry each, which turns a recipe's description of a domain into an image set."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

from muhdi.config import DataConfig, FolderConfig, ScenesConfig
from muhdi.data.dataset import FileSet, ImageSet, Size
from muhdi.data.scenes import CLASSES, SceneSet
from muhdi.errors import MuhdiError
from muhdi.taxonomy import ClassSet


@dataclass(frozen=True)
class Context:
    """What an entry may need beside the domain's own description: parts of the recipe."""

    classes: ClassSet
    image_size: Size
    root: str
    seed: int


def open_split(config: DataConfig, split: str, context: Context, *, labels: bool = True) -> ImageSet:
    """The images of one split (``train`` or ``val``) of a domain; without ``labels`` they are not even looked for.

    Raises:
        MuhdiError: the root is missing, a pattern matches nothing, or an image lacks its label.
    """
    return CATALOG[config.dataset](config, split, context, labels)


def expand_root(context: Context, root: str) -> Path:
    """``root`` below the recipe's root, with ``~`` and environment variables filled in; it must exist."""
    folder = Path(_expand(context.root, "root"), _expand(root, "root of the data set"))
    if not folder.is_dir():
        raise MuhdiError(f"root: the folder {folder} does not exist; give the right one with --set root=FOLDER")
    return folder


def find_file(path: str, root: str, key: str) -> Path:
    """A file that a recipe names: as it is given, or below the recipe's root.

    Raises:
        MuhdiError: there is none.
    """
    given = Path(_expand(path, key))
    places = [given] if given.is_absolute() else [given, Path(_expand(root, "root")) / given]
    for place in places:
        if place.is_file():
            return place
    raise MuhdiError(f"{key}: the file {' or '.join(map(str, dict.fromkeys(places)))} does not exist; correct the path")


def _expand(path: str, key: str) -> str:
    expanded = os.path.expanduser(os.path.expandvars(path))
    missing = re.search(r"\$\{?(\w+)\}?", expanded)
    if missing:
        raise MuhdiError(
            f"{key}: the environment variable {missing[1]} is not set; set it to the data's folder, or give --set "
            "root=FOLDER"
        )
    return expanded


def _open_scenes(config: ScenesConfig, split: str, context: Context, labels: bool) -> ImageSet:
    absent = [name for name in CLASSES if name not in context.classes.classes]
    if absent:
        raise MuhdiError(
            f"classes: the built-in scenes draw the class {absent[0]!r}, which {context.classes.name!r} lacks; use "
            "classes: urban7"
        )
    table = context.classes.lookup(dict(enumerate(CLASSES)))
    count = config.train if split == "train" else config.val
    seed = context.seed if config.seed is None else config.seed
    return SceneSet(config.domain, split, count, seed, context.image_size, table)


def _open_folder(config: FolderConfig, split: str, context: Context, labels: bool) -> ImageSet:
    root = expand_root(context, config.root)
    key, pattern, label_pattern = "images", config.images, config.labels
    if split == "val" and config.val_images is not None:
        key, pattern, label_pattern = "val_images", config.val_images, None
    if split == "val" and config.val_labels is not None:
        label_pattern = config.val_labels
    pattern = pattern.replace("{split}", split)
    images = sorted(path for path in _matches(root, pattern) if path.is_file())
    if not images:
        raise MuhdiError(f"{key}: the pattern {pattern!r} matches no file in {root}; correct it, or the root")
    files = None
    if labels and label_pattern is not None:
        base = root / _fixed_part(pattern)
        files = [_label_file(root, label_pattern, path, base, split, config.domain_name) for path in images]
        files = _all_or_none(images, files, required="{split}" not in label_pattern, domain=config.domain_name)
    return FileSet(config.domain_name, images, files, context.classes.lookup(config.ids), config.strict)


def _matches(root: Path, pattern: str) -> list[Path]:
    anchor = Path(pattern).anchor
    try:
        return list(Path(anchor or root).glob(pattern[len(anchor) :]))
    except (ValueError, NotImplementedError) as error:
        raise MuhdiError(f"images: {pattern!r} is not a pattern ({str(error).lower()}); ** must stand alone") from None


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before the first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _label_file(root: Path, pattern: str, image: Path, base: Path, split: str, domain: str) -> Path:
    values = {"split": split, "stem": image.stem, "name": image.name, "parent": str(image.parent.relative_to(base))}
    try:
        return root / pattern.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise MuhdiError(
            f"labels of {domain!r}: {pattern!r} may hold {{split}}, {{stem}}, {{name}} and {{parent}} only"
        ) from None


def _all_or_none(images: list[Path], labels: list[Path], *, required: bool, domain: str) -> list[Path] | None:
    """The labels, if every image has one; none if no image has one and the split may be without labels."""
    missing = [(image, label) for image, label in zip(images, labels, strict=True) if not label.is_file()]
    if not missing:
        return labels
    if len(missing) == len(images) and not required:
        return None
    image, label = missing[0]
    raise MuhdiError(
        f"{image}: its label {label} is missing ({len(missing)} of {len(images)} images of {domain!r} have none); add "
        "the labels, or leave 'labels' out of the data set"
    )


CATALOG: dict[str, Callable[[Any, str, Context, bool], ImageSet]] = {"scenes": _open_scenes, "folder": _open_folder}
"""Opener by the name that recipes use."""
