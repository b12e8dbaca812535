"""Finding out what a folder holds: its images, which files are labels, and how the two pair up.

`muhdi new` writes a recipe from it; `muhdi adapt` uses it for folders of images alone.
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

from muhdi.data.paths import IMAGE_ENDINGS, fixed_part, matches
from muhdi.data.sets import Size, spread_indices
from muhdi.errors import DataError

LABEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
"""Formats that keep ids as they are."""
ID_MODES = frozenset(("L", "P", "1", "I", "I;16", "I;16B"))
"""Pillow's modes of images that have one number per pixel."""
LABEL_WORDS = re.compile(
    r"label|mask|annot|ground.?truth|(^|[^a-z])(gt|seg|semantic|ids?)([^a-z]|$)", re.IGNORECASE
)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
"""Folder name -> split."""
OPENED = 2000
"""Files whose headers are read; if there are more, one file speaks for its folder."""
COUNTED = 40
"""Labels whose ids are counted."""


@dataclass(frozen=True)
class Survey:
    """What a folder holds.

    Attributes:
        images: pattern of the training images, as in a recipe; with ``{split}`` where folders of
            both splits are there.
        labels: pattern of their labels; None where there are none.
        val: patterns of the evaluation's images and labels, if ``{split}`` cannot express them.
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
    """Find the images in a folder, and their labels.

    Args:
        root: the folder.
        labelled: whether labels must be found too; otherwise everything is an image.

    Raises:
        DataError: the folder does not exist, or there are no images, or no labels that pair with
            them.
    """
    if not root.is_dir():
        raise DataError(f"{root}: the folder does not exist; correct the path")
    files = []
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGE_ENDINGS and path.is_file():
            files.append(path.relative_to(root))
    if not files:
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        raise DataError(f"{root}: holds no images (known endings: {endings})")
    labels = _labels_among(root, files)
    images = sorted(set(files) - set(labels))
    if not labelled:
        return _described(root, images or files, [])
    if not labels:
        raise DataError(
            f"{root}: holds no label images; they are grey or palette images of one id per pixel,"
            " one for each image"
        )
    if not images:
        raise DataError(
            f"{root}: holds only grey images, which all look like labels; write a recipe that says"
            " which are images and which are labels"
        )
    return _described(root, images, labels)


def _described(root: Path, images: list[Path], labels: list[Path]) -> Survey:
    """The patterns of images and labels, and what they hold."""
    by_split = _by_split(images)
    # Without folders of both splits there is one group, which serves for both.
    groups = by_split or {"": images}
    known = {str(path) for path in labels}
    patterns: dict[str, str] = {}
    label_patterns: dict[str, str | None] = {}
    pairs: dict[str, list[Path]] = {}
    for split, group in groups.items():
        patterns[split] = _pattern(root, group)
        label_patterns[split], pairs[split] = _paired(root, group, known, patterns[split])
    first = next(iter(groups))
    sizes = Counter(_size(root / path) for path in _some(groups[first], COUNTED))
    size = sizes.most_common(1)[0][0]
    ids = _ids([root / path for path in _some(pairs[first], COUNTED)]) if labels else {}
    count = len(images)
    if not by_split:
        return Survey(patterns[first], label_patterns[first], None, count, size, ids)
    train = _with_split(patterns["train"]), _with_split(label_patterns["train"])
    val = _with_split(patterns["val"]), _with_split(label_patterns["val"])
    if train == val:
        assert train[0] is not None
        return Survey(train[0], train[1], None, count, size, ids)
    separate = patterns["val"], label_patterns["val"]
    return Survey(patterns["train"], label_patterns["train"], separate, count, size, ids)


# --- labels ---------------------------------------------------------------------------------------


def _labels_among(root: Path, files: list[Path]) -> list[Path]:
    """The files with one id per pixel that, where images are grey too, are named like labels."""
    candidates = [path for path in files if path.suffix.lower() in LABEL_ENDINGS]
    grey = []
    if len(candidates) <= OPENED:
        grey = [path for path in candidates if _mode(root / path) in ID_MODES]
    else:
        for group in _by_folder(candidates).values():
            if _mode(root / group[0]) in ID_MODES:
                grey += group
        grey.sort()
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
        with Image.open(path) as image:
            return image.mode
    except (OSError, ValueError, SyntaxError):
        return "unreadable"


def _size(path: Path) -> Size:
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError):
        raise _unreadable(path) from None


def _unreadable(path: Path) -> DataError:
    return DataError(f"{path}: not an image that can be read; remove or replace it")


def _paired(
    root: Path, images: list[Path], labels: set[str], pattern: str
) -> tuple[str | None, list[Path]]:
    """The pattern that gives every image its label, and the labels.

    Neither where there are no labels at all.

    Raises:
        DataError: an image has no label by any pattern.
    """
    if not labels:
        return None, []
    base = fixed_part(pattern)
    first = images[0]
    # A label that could belong to the first image suggests a rule, which all others must follow.
    for label in _alike(first, [Path(label) for label in labels]):
        before, _, after = label.name.partition(first.stem)
        name = f"{_literal(before)}{{stem}}{_literal(after)}"
        candidate = str(_folder(label.parent, os.path.relpath(first.parent, base)) / name)
        names = []
        for image in images:
            parent = os.path.relpath(image.parent, base)
            names.append(os.path.normpath(candidate.format(stem=image.stem, parent=parent)))
        if labels.issuperset(names):
            return candidate, [Path(name) for name in names]
    raise DataError(
        f"{root / first}: no label belongs to it, or not every image has one by the same rule; a"
        " label's name must contain the image's, and its folder follow from the image's; otherwise"
        " write the patterns yourself"
    )


def _alike(image: Path, labels: list[Path]) -> list[Path]:
    """Labels whose names hold the image's, those with more of its folders first."""
    found = [path for path in labels if image.stem in path.stem]
    folders = set(image.parent.parts)

    def order(path: Path) -> tuple[int, int, str]:
        return -len(folders & set(path.parent.parts)), len(path.name), str(path)

    return sorted(found, key=order)


def _folder(folder: Path, parent: str) -> Path:
    """The folder of a label as a pattern, which ends in ``{parent}`` if it ends as the image's."""
    end = Path(parent).parts
    if parent != "." and folder.parts[-len(end) :] == end:
        return Path(_literal(str(Path(*folder.parts[: -len(end)]))), "{parent}")
    return Path(_literal(str(folder)))


def _literal(text: str) -> str:
    """Text inside a pattern, in which braces have a meaning."""
    return text.replace("{", "{{").replace("}", "}}")


def _ids(labels: list[Path]) -> dict[int, float]:
    """Raw id -> share of the pixels."""
    counts: Counter[int] = Counter()
    for path in labels:
        try:
            with Image.open(path) as image:
                values, numbers = np.unique(np.asarray(image), return_counts=True)
        except (OSError, ValueError, SyntaxError):
            raise _unreadable(path) from None
        counts.update(dict(zip(values.astype(int).tolist(), numbers.tolist(), strict=True)))
    total = sum(counts.values()) or 1
    return {raw: count / total for raw, count in sorted(counts.items())}


# --- patterns -------------------------------------------------------------------------------------


def _split_of(path: Path) -> str | None:
    for part in path.parent.parts:
        if part.lower() in SPLITS:
            return SPLITS[part.lower()]
    return None


def _by_split(images: list[Path]) -> dict[str, list[Path]]:
    """Images by split, train first, if there are images of both; otherwise nothing."""
    found: dict[str, list[Path]] = {"train": [], "val": []}
    for path in images:
        split = _split_of(path)
        if split is not None:
            found[split].append(path)
    return found if all(found.values()) else {}


def _pattern(root: Path, images: list[Path]) -> str:
    """The narrowest pattern folder/*.ending or folder/**/*.ending that matches all the images.

    Raises:
        DataError: it matches other files too.
    """
    common = Path(os.path.commonpath([str(path.parent) for path in images]))
    endings = {path.suffix for path in images}
    name = f"*{endings.pop()}" if len(endings) == 1 else "*.*"
    deeper = any(path.parent != common for path in images)
    pattern = str(common / "**" / name if deeper else common / name)
    strays = {path.relative_to(root) for path in matches(root, pattern)} ^ set(images)
    if strays:
        raise DataError(
            f"{root / min(strays)}: lies among the images but is not one, or has another ending;"
            " move the images to a separate folder, or write the recipe's patterns yourself"
        )
    return pattern


def _with_split(pattern: str | None) -> str | None:
    """``{split}`` in place of the folder of the same name."""
    if pattern is None:
        return None
    parts = ["{split}" if part in ("train", "val") else part for part in Path(pattern).parts]
    return str(Path(*parts))


def _some(paths: Sequence[Path], count: int) -> list[Path]:
    """Up to ``count`` paths, evenly spaced."""
    return [paths[index] for index in spread_indices(len(paths), count)]
