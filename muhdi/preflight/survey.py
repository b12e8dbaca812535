"""Looking into a folder of images.

Which files are labels, how they pair with images, and what they hold.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from muhdi.data.paths import fixed_part, matches
from muhdi.data.sets import Size
from muhdi.errors import MuhdiError

IMAGES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"))
ID_MODES = frozenset(("L", "P", "1", "I", "I;16", "I;16B"))
LABEL_WORDS = re.compile(
    r"label|mask|annot|ground.?truth|(^|[^a-z])(gt|seg|semantic|ids?)([^a-z]|$)", re.IGNORECASE
)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
"""Folder names that stand for a split."""
OPENED = 2000
"""Files whose headers are read; beyond, one file speaks for its folder."""
COUNTED = 40
"""Labels whose ids are counted."""


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        images: pattern of the training images, as in a recipe; with ``{split}`` where folders of
            both splits are there.
        labels: pattern of their labels; None where there are none.
        val: patterns of the evaluation's images and labels, where ``{split}`` cannot say them.
        count: of the images.
        size: width and height of most images.
        ids: raw id -> share of the pixels, of some labels.
    """

    images: str
    labels: str | None
    val: tuple[str, str | None] | None
    count: int
    size: Size
    ids: dict[int, float] = field(default_factory=dict)


def survey(root: Path, *, labelled: bool) -> Survey:
    """Look into a folder.

    Args:
        root: the folder.
        labelled: whether labels must be found too; otherwise everything is an image.

    Raises:
        MuhdiError: there are no images, or no labels that pair with them.
    """
    if not root.is_dir():
        raise MuhdiError(f"{root}: the folder does not exist; correct the path")
    files = sorted(
        p.relative_to(root) for p in root.rglob("*") if p.suffix.lower() in IMAGES and p.is_file()
    )
    if not files:
        raise MuhdiError(f"{root}: holds no images (known endings: {', '.join(sorted(IMAGES))})")
    labels = _labels_among(root, files)
    images = sorted(set(files) - set(labels))
    if not labelled:
        return _described(root, images or files, [])
    if not labels:
        raise MuhdiError(
            f"{root}: holds no label images; they are grey or palette images of one id per pixel,"
            " one for each image"
        )
    if not images:
        raise MuhdiError(
            f"{root}: holds grey images alone, which all look like labels; say in a recipe which"
            " are which"
        )
    return _described(root, images, labels)


def _described(root: Path, images: list[Path], labels: list[Path]) -> Survey:
    """The patterns of images and labels, and what is in them."""
    by_split = _by_split(images)
    train = by_split.get("train") or images
    places = {split: _pattern(root, some) for split, some in (by_split or {"": images}).items()}
    known = {str(path) for path in labels}
    found = {
        split: _paired(root, by_split.get(split, images), known, places[split]) for split in places
    }
    pairs = {split: pattern for split, (pattern, _) in found.items()}
    size = Counter(_size(root / path) for path in _some(train, COUNTED)).most_common(1)[0][0]
    ids = (
        _ids([root / path for path in _some(next(iter(found.values()))[1], COUNTED)])
        if labels
        else {}
    )
    if set(places) == {"train", "val"}:
        joint = {split: (_with_split(places[split]), _with_split(pairs[split])) for split in places}
        if joint["train"] == joint["val"]:
            pattern, label = joint["train"]
            assert pattern is not None
            return Survey(pattern, label, None, len(images), size, ids)
        return Survey(
            places["train"], pairs["train"], (places["val"], pairs["val"]), len(images), size, ids
        )
    split = next(iter(places))
    return Survey(places[split], pairs[split], None, len(images), size, ids)


# --- labels ---------------------------------------------------------------------------------------


def _labels_among(root: Path, files: list[Path]) -> list[Path]:
    """The files with one id per pixel that, where images are grey too, are named like labels."""
    candidates = [
        path for path in files if path.suffix.lower() in (".png", ".bmp", ".tif", ".tiff")
    ]
    if len(candidates) > OPENED:
        kinds = {
            folder: _mode(root / some[0]) in ID_MODES
            for folder, some in _by_folder(candidates).items()
        }
        grey = [path for path in candidates if kinds[path.parent]]
    else:
        grey = [path for path in candidates if _mode(root / path) in ID_MODES]
    named = [path for path in grey if LABEL_WORDS.search(str(path))]
    if len(grey) == len(files) or (named and len(named) < len(grey)):
        return named
    return grey


def _by_folder(files: Sequence[Path]) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path)
    return folders


def _mode(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            return picture.mode
    except (OSError, ValueError, SyntaxError):
        return "unreadable"


def _size(path: Path) -> Size:
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError):
        raise MuhdiError(
            f"{path}: not an image that can be read; remove it, or replace it"
        ) from None


def _paired(
    root: Path, images: list[Path], labels: set[str], pattern: str
) -> tuple[str | None, list[Path]]:
    """The pattern that gives every image its label, and the labels.

    Neither where there are no labels at all.

    Raises:
        MuhdiError: an image has no label by any pattern.
    """
    if not labels:
        return None, []
    base, first = fixed_part(pattern), images[0]
    for label in _alike(first, [Path(label) for label in labels]):
        before, _, after = label.name.partition(first.stem)
        name = f"{_literal(before)}{{stem}}{_literal(after)}"
        candidate = str(_folder(label.parent, os.path.relpath(first.parent, base)) / name)
        names = [
            os.path.normpath(
                candidate.format(stem=image.stem, parent=os.path.relpath(image.parent, base))
            )
            for image in images
        ]
        if labels.issuperset(names):
            return candidate, [Path(name) for name in names]
    raise MuhdiError(
        f"{root / first}: no label was found that belongs to it, or not every image has one by the"
        " same rule; a label's name must hold the image's, and its folder follow from the image's;"
        " else write the patterns yourself"
    )


def _alike(image: Path, labels: list[Path]) -> list[Path]:
    """Labels whose names hold the image's, those with more of its folders first."""
    found = [path for path in labels if image.stem in path.stem]
    parts = set(image.parent.parts)
    return sorted(
        found, key=lambda path: (-len(parts & set(path.parent.parts)), len(path.name), str(path))
    )


def _folder(folder: Path, parent: str) -> Path:
    """The folder of a label as a pattern.

    With ``{parent}`` in place of the image's where it ends so, or as it is.
    """
    own = Path(parent).parts
    if parent != "." and folder.parts[-len(own) :] == own:
        return Path(_literal(str(Path(*folder.parts[: -len(own)]))), "{parent}")
    return Path(_literal(str(folder)))


def _literal(text: str) -> str:
    """Text inside a pattern, in which braces have a meaning."""
    return text.replace("{", "{{").replace("}", "}}")


def _ids(labels: list[Path]) -> dict[int, float]:
    """Raw id -> share of the pixels."""
    counts: Counter[int] = Counter()
    for path in labels:
        try:
            with Image.open(path) as picture:
                values, numbers = np.unique(np.asarray(picture), return_counts=True)
        except (OSError, ValueError, SyntaxError):
            raise MuhdiError(
                f"{path}: not an image that can be read; remove it, or replace it"
            ) from None
        counts.update(dict(zip(values.astype(int).tolist(), numbers.tolist(), strict=True)))
    total = sum(counts.values()) or 1
    return {raw: count / total for raw, count in sorted(counts.items())}


# --- patterns -------------------------------------------------------------------------------------


def _split_of(path: Path) -> str | None:
    names = [SPLITS[part.lower()] for part in path.parent.parts if part.lower() in SPLITS]
    return names[0] if names else None


def _by_split(images: list[Path]) -> dict[str, list[Path]]:
    """Images by split, if both splits are there; none otherwise."""
    found: dict[str, list[Path]] = {}
    for path in images:
        if (split := _split_of(path)) is not None:
            found.setdefault(split, []).append(path)
    return (
        {split: found[split] for split in ("train", "val")}
        if set(found) == {"train", "val"}
        else {}
    )


def _pattern(root: Path, images: list[Path]) -> str:
    """The narrowest pattern of the form folder/*.ending or folder/**/*.ending that has them all.

    Raises:
        MuhdiError: it has other files too.
    """
    common = Path(os.path.commonpath([str(path.parent) for path in images]))
    endings = {path.suffix for path in images}
    name = f"*{endings.pop()}" if len(endings) == 1 else "*.*"
    deeper = any(path.parent != common for path in images)
    pattern = str(common / "**" / name if deeper else common / name)
    strays = {path.relative_to(root) for path in matches(root, pattern)} ^ set(images)
    if strays:
        raise MuhdiError(
            f"{root / min(strays)}: lies among the images and is none, or has another ending; bring"
            " the images into a folder of their own, or write the recipe's patterns yourself"
        )
    return pattern


def _with_split(pattern: str | None) -> str | None:
    """``{split}`` in place of the folder of the same name."""
    if pattern is None:
        return None
    parts = list(Path(pattern).parts)
    for place, part in enumerate(parts):
        if part in ("train", "val"):
            parts[place] = "{split}"
    return str(Path(*parts))


def _some(paths: Sequence[Path], count: int) -> list[Path]:
    """Paths spread evenly."""
    places = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))
    return [paths[place] for place in places.tolist()]
