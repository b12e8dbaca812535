"""Finding out what a folder holds: its images, which files are labels, and how the two pair up.

`muhdi new` writes a recipe from it; `muhdi adapt` uses it for folders of images alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.label_image import holds_colours, is_lossy, read_colours, read_ids
from muhdi.data.paths import IMAGE_ENDINGS, fill_label_pattern, fixed_part, list_files, matches
from muhdi.data.sets import Size, spread_indices
from muhdi.errors import DataError
from muhdi.preflight.masks import mask_patterns
from muhdi.taxonomy import hex_colour

LABEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")
"""Formats that keep ids as they are."""
ID_MODES = frozenset(("L", "P", "1", "I", "I;16", "I;16B"))
"""Pillow's modes of images that have one number per pixel."""
LABEL_WORDS = re.compile(
    r"(?<!un)label|mask|annot|ground.?truth|(^|[^a-z])(gt|seg|semantic|ids?)([^a-z]|$)",
    re.IGNORECASE,
)
OTHER_WORDS = re.compile(r"instance|depth|dispar|panoptic|flow|edge|normal|color|colour|vis", re.I)
"""Words in the names of pictures that lie next to labels and are something else."""
MAX_COLOURS = 256
"""Labels that hold more colours than this are taken for pictures."""
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
        colours: ``#rrggbb`` -> share of the pixels, where labels hold colours instead of ids.
        masks: class -> pattern of its masks, where labels are one mask per class.
        notes: what the user should know.
    """

    images: str
    labels: str | None
    val: tuple[str, str | None] | None
    count: int
    size: Size
    ids: dict[int, float] = field(default_factory=dict)
    colours: dict[str, float] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    listing = list_files(root)
    files = [path.relative_to(root) for path in listing.files]
    if not files:
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        raise DataError(f"{root}: holds no images (known endings: {endings})")
    notes = [f"{root}: {note}" for note in [listing.note()] if note]
    if not labelled:
        # Grey images too: of a new place, nothing is a label.
        images = _without_labels(root, files)
        if len(images) < len(files):
            notes.append(
                f"{root}: {len(files) - len(images)} images in folders that are named like labels"
                " were left out"
            )
        found = _described(root, images, [])
        return replace(found, notes=[*notes, *found.notes])
    labels = _labels_among(root, files)
    images = sorted(set(files) - set(labels))
    if not labels:
        raise DataError(
            f"{root}: holds no label images; they are grey or palette images of one id per pixel,"
            " or images of colours in a folder named like labels, one for each image"
        )
    if not images:
        raise DataError(
            f"{root}: holds only grey images, which all look like labels; write a recipe that says"
            " which are images and which are labels"
        )
    found = _described(root, images, labels)
    return replace(found, notes=[*notes, *found.notes])


def _without_labels(root: Path, files: list[Path]) -> list[Path]:
    """The images of a new place: folders that are named like labels of others are left out."""
    folders = {path.parent for path in files}
    named = {folder for folder in folders if LABEL_WORDS.search(folder.name)}
    kept = [path for path in files if path.parent not in named]
    return kept or files


def _described(root: Path, images: list[Path], labels: list[Path]) -> Survey:
    """The patterns of images and labels, and what they hold."""
    by_split = _by_split(images)
    known = {str(path) for path in labels}
    # Without folders of both splits there is one group, which serves for both.
    groups = {
        split: _group(root, members, known) for split, members in (by_split or {"": images}).items()
    }
    first = next(iter(groups.values()))
    sizes = Counter(_size(root / path) for path in _some(first.images, COUNTED))
    size = sizes.most_common(1)[0][0]
    ids, colours = _values([root / path for path in _some(first.labels, COUNTED)])
    notes = [note for group in groups.values() for note in group.notes]
    if by_split:
        others = len(images) - sum(map(len, by_split.values()))
        if others:
            notes.append(
                f"{root}: {others} images outside the folders of train and val were left out"
            )
    found = Survey(
        first.pattern,
        first.label_pattern,
        None,
        len(first.images),
        size,
        ids,
        colours,
        first.masks,
        notes=notes,
    )
    if not by_split:
        return found
    train = groups["train"].with_split()
    val = groups["val"]
    if train == val.with_split():
        pattern, label_pattern, masks = train
        return replace(found, images=pattern, labels=label_pattern, masks=masks)
    if found.masks:
        raise DataError(
            f"{root}: holds a mask for each class, whose places differ between the splits by more"
            " than the folders train and val; name these folders so, or write the recipe's 'masks'"
            " yourself"
        )
    return replace(found, val=(val.pattern, val.label_pattern))


@dataclass(frozen=True)
class _Group:
    """The images of a split, or all, and their labels.

    Attributes:
        images: relative to the root.
        pattern: of the images.
        labels: one per image; none where there are no labels.
        label_pattern: of the labels.
        masks: class -> pattern of its masks, where labels are masks.
        notes: what the user should know.
    """

    images: list[Path]
    pattern: str
    labels: list[Path]
    label_pattern: str | None
    masks: dict[str, str]
    notes: list[str]

    def with_split(self) -> tuple[str, str | None, dict[str, str]]:
        """The patterns of images, labels and masks with ``{split}`` for the split's folder."""
        masks = {name: _with_split(pattern) for name, pattern in self.masks.items()}
        labels = None if self.label_pattern is None else _with_split(self.label_pattern)
        return _with_split(self.pattern), labels, masks


def _group(root: Path, images: list[Path], labels: set[str]) -> _Group:
    """The patterns of some images, and of those among the labels that belong to them."""
    pattern = _pattern(root, images)
    (label_pattern, taken), *others = _paired(root, images, labels, pattern)
    fitting = {str(label_pattern): taken, **{str(other): files for other, files in others}}
    masks = mask_patterns(
        {name: [root / path for path in _some(files, COUNTED)] for name, files in fitting.items()}
    )
    if any(LABEL_WORDS.search(name) or OTHER_WORDS.search(name) for name in masks):
        masks = {}  # two kinds of labels, not two classes
    used = {str(file) for files in fitting.values() for file in files}
    unused = sorted(
        label
        for label in labels
        if label not in used and _split_of(Path(label)) in (None, _split_of(images[0]))
    )
    notes = []
    if unused:
        notes.append(
            f"{root}: {len(unused)} label files fit no pattern that every image follows, for"
            f" example {unused[0]}; masks of a class that not every image shows have to be named in"
            " 'masks'"
        )
    if not masks:
        for other, _ in others:
            notes.append(f"{root}: {other} would fit as labels too; taken is {label_pattern}")
    return _Group(images, pattern, taken, label_pattern, masks, notes)


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
    if grey:
        return grey
    return _coloured_labels(root, files)


def _coloured_labels(root: Path, files: list[Path]) -> list[Path]:
    """Files of few colours that are named like labels, or JPEG files of that kind, to refuse them.

    Raises:
        DataError: the labels are of a format that changes them.
    """
    found = []
    for group in _by_folder([path for path in files if LABEL_WORDS.search(str(path))]).values():
        first = root / group[0]
        lossy = _lossy(first)
        if lossy:
            read_ids(first)  # refuses it, and says why
        if len(np.unique(read_colours(first))) <= MAX_COLOURS:
            found += group
    return sorted(found)


def _lossy(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return bool(is_lossy(path, image))
    except (OSError, ValueError, SyntaxError):
        return False


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
) -> list[tuple[str | None, list[Path]]]:
    """The patterns that give every image its label, with the labels, the likeliest first.

    A single one of None where there are no labels at all.

    Raises:
        DataError: an image has no label by any pattern.
    """
    if not labels:
        return [(None, [])]
    base = fixed_part(pattern)
    first = images[0]
    found: dict[str, list[Path]] = {}
    # A label that could belong to the first image suggests a rule, which all others must follow.
    for label in _alike(first, [Path(label) for label in labels]):
        for name in _names(first.stem, label.name):
            candidate = str(_folder(label.parent, os.path.relpath(first.parent, base)) / name)
            names = [os.path.normpath(fill(candidate, image, base)) for image in images]
            if labels.issuperset(names):
                found.setdefault(candidate, [Path(name) for name in names])
    if not found:
        raise DataError(
            f"{root / first}: no label belongs to it, or not every image has one by the same rule;"
            " a label's name must contain the image's, or what comes before its last _, and its"
            " folder follow from the image's; otherwise write the patterns yourself"
        )
    return list(found.items())


def fill(pattern: str, image: Path, base: Path) -> str:
    """The label's path that a pattern gives for an image."""
    parent = os.path.relpath(image.parent, base)
    return fill_label_pattern(pattern, stem=image.stem, parent=parent)


def _names(stem: str, label: str) -> list[str]:
    """Patterns of a label's name that hold the image's stem, or its part before the last _."""
    found = []
    begin, _, end = stem.rpartition("_")
    for part, key in ((stem, "{stem}"), (begin, f"{{stem:_{end}}}")):
        if part and part in label:
            before, _, after = label.partition(part)
            found.append(f"{_literal(before)}{key}{_literal(after)}")
    return found


def _alike(image: Path, labels: list[Path]) -> list[Path]:
    """Labels whose names hold the image's, likely ones and those with more of its folders first."""
    shortest = image.stem.rpartition("_")[0] or image.stem
    # A picture of the other split may have the same name.
    split = _split_of(image)
    found = [
        path
        for path in labels
        if shortest in path.stem and (split is None or _split_of(path) in (None, split))
    ]
    folders = set(image.parent.parts)

    def order(path: Path) -> tuple[bool, bool, int, int, str]:
        return (
            image.stem not in path.stem,
            bool(OTHER_WORDS.search(str(path))),
            -len(folders & set(path.parent.parts)),
            len(path.name),
            str(path),
        )

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


def _values(labels: list[Path]) -> tuple[dict[int, float], dict[str, float]]:
    """Raw id -> share of the pixels, or colour -> share where labels hold colours."""
    if any(holds_colours(path) for path in labels):
        shares = _shares([read_colours(path) for path in labels])
        named = {hex_colour((c >> 16, c >> 8 & 255, c & 255)): s for c, s in shares.items()}
        if len(named) > MAX_COLOURS:
            raise DataError(
                f"{labels[0]}: labels of colours hold {len(named)} of them, more than classes have;"
                " they may have been resized or compressed"
            )
        return {}, named
    return _shares([read_ids(path) for path in labels]), {}


def _shares(labels: Sequence[npt.NDArray[Any]]) -> dict[int, float]:
    """Value -> share of the pixels, in the order of the values."""
    counts: Counter[int] = Counter()
    for label in labels:
        values, numbers = np.unique(label, return_counts=True)
        counts.update(dict(zip(values.astype(int).tolist(), numbers.tolist(), strict=True)))
    total = sum(counts.values()) or 1
    return {value: count / total for value, count in sorted(counts.items())}


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
    endings = {path.suffix.lower() for path in images}
    name = f"*{endings.pop()}" if len(endings) == 1 else "*"
    deeper = any(path.parent != common for path in images)
    folder = Path(*map(escape, common.parts))
    pattern = str(folder / "**" / name if deeper else folder / name)
    strays = {path.relative_to(root) for path in matches(root, pattern)} ^ set(images)
    if strays:
        raise DataError(
            f"{root / min(strays)}: lies among the images but is not one, or has another ending;"
            " move the images to a separate folder, or write the recipe's patterns yourself"
        )
    return pattern


def _with_split(pattern: str) -> str:
    """``{split}`` in place of the folder of the same name."""
    parts = ["{split}" if part in ("train", "val") else part for part in Path(pattern).parts]
    return str(Path(*parts))


def _some(paths: Sequence[Path], count: int) -> list[Path]:
    """Up to ``count`` paths, evenly spaced."""
    return [paths[index] for index in spread_indices(len(paths), count)]
