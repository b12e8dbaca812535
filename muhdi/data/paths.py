"""Finding files: roots, patterns, lists, and the label of each image."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from muhdi.errors import DataError, RecipeError

IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
)
"""Endings, in small letters, of files that are taken for images wherever a folder is searched."""


@dataclass(frozen=True)
class SplitImages:
    """The images of one split.

    Attributes:
        paths: the image files.
        name: what label patterns have in place of ``{split}``.
        base: the folder that ``{parent}`` in label patterns is relative to.
    """

    paths: list[Path]
    name: str
    base: Path


def expand_root(base: str, root: str) -> Path:
    """``root`` below the folder ``base``, with ``~`` and environment variables filled in.

    Raises:
        DataError: the folder does not exist.
    """
    folder = Path(expand(base, "runtime.root"), expand(root, "root of the data set"))
    if not folder.is_dir():
        advice = "give the right one with --set runtime.root=FOLDER"
        if os.path.isabs(expand(root, "root")):
            advice = "correct it"
        raise DataError(f"root: the folder {folder} does not exist; {advice}")
    return folder


def expand(path: str, key: str) -> str:
    """``path`` with ``~`` and environment variables filled in.

    Args:
        path: as the user gave it.
        key: the key under which the user gave it.

    Raises:
        RecipeError: an environment variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    missing = re.search(r"\$\{?(\w+)\}?", expanded)
    if missing:
        raise RecipeError(
            f"{key}: the environment variable {missing[1]} is not set; set it to the data's folder,"
            " or give --set runtime.root=FOLDER"
        )
    return expanded


def find_file(path: str, root: str, key: str) -> Path:
    """A file that a recipe names: as it is given, or below the recipe's root.

    Args:
        path: as the recipe gives it.
        root: of the recipe.
        key: the key of the recipe.

    Raises:
        DataError: there is no such file.
    """
    given = Path(expand(path, key))
    candidates = [given]
    if not given.is_absolute():
        candidates.append(Path(expand(root, "runtime.root")) / given)
    for candidate in candidates:
        if _is_file(candidate):
            return candidate
    shown = " or ".join(map(str, dict.fromkeys(candidates)))
    raise DataError(f"{key}: the file {shown} does not exist; correct the path")


def matches(root: Path, pattern: str) -> list[Path]:
    """Files below ``root`` that a pattern with ``*`` and ``**`` matches, sorted.

    Raises:
        RecipeError: it is not a pattern.
    """
    anchor = Path(pattern).anchor
    try:
        found = list(Path(anchor or root).glob(pattern[len(anchor) :]))
    except (ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"images: {pattern!r} is not a pattern ({str(error).lower()}); ** must be a whole"
            " folder name"
        ) from None
    files = [path for path in found if os.path.isfile(path)]
    # Folder by folder, not letter by letter: "a/x" comes before "a-b/x" on every system.
    return sorted(files, key=lambda path: path.parts)


def fixed_part(pattern: str) -> Path:
    """The folders of a pattern before the first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def label_files(
    root: Path, pattern: str, images: SplitImages, stems: list[str], domain: str
) -> list[Path]:
    """The file that a label pattern names for each image, whether or not it exists.

    Args:
        root: of the data set.
        pattern: relative to the root; may hold ``{split}``, ``{stem}``, ``{name}`` (of the image
            file) and ``{parent}`` (its folder, relative to the images' base).
        images: of the split.
        stems: what ``{stem}`` stands for, by image.
        domain: name of the domain, for messages.

    Raises:
        RecipeError: the pattern holds something else in braces.
    """
    # Kept by folder and as texts: there may be hundreds of thousands of images, and relative paths
    # take long to compute.
    parents: dict[str, str] = {}
    files = []
    try:
        for image, stem in zip(images.paths, stems, strict=True):
            folder, name = os.path.split(image)
            if folder not in parents:
                parents[folder] = os.path.relpath(folder, images.base)
            parent = parents[folder]
            filled = pattern.format(split=images.name, stem=stem, name=name, parent=parent)
            files.append(root / filled)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise RecipeError(
            f"labels of {domain!r}: {pattern!r} may hold {{split}}, {{stem}}, {{name}} and"
            " {parent} only"
        ) from None
    return files


def all_or_none(
    images: list[Path], labels: list[Path], *, required: bool, domain: str, advice: str
) -> list[Path] | None:
    """The labels if every image has one, or None if no image has one.

    Args:
        images: files.
        labels: where the label of each should be.
        required: refuse a split without any label.
        domain: name of the domain, for the message.
        advice: what to do, for the message.

    Raises:
        DataError: labels are missing.
    """
    missing = []
    for image, label in zip(images, labels, strict=True):
        if not os.path.isfile(label):
            missing.append((image, label))
    if not missing:
        return labels
    if len(missing) == len(images) and not required:
        return None
    image, label = missing[0]
    raise DataError(
        f"{image}: its label {label} is missing ({len(missing)} of {len(images)} images of"
        f" {domain!r} have none); {advice}"
    )


def find_list(folders: list[Path], names: list[str], key: str) -> Path:
    """The first list file of these names in these folders.

    Args:
        folders: where to look.
        names: of the file; each is looked for in all folders before the next.
        key: the key under which the user named it.

    Raises:
        DataError: there is none.
    """
    candidates = [folder / expand(name, key) for name in names for folder in folders]
    for path in candidates:
        if _is_file(path):
            return path
    others = ", ".join(map(str, folders[1:]))
    raise DataError(
        f"{key}: the file {candidates[0]} does not exist (nor below {others}); correct it, or the"
        " names of the splits, or leave it out to take what is in the folders"
    )


def read_list(path: Path, base: Path, within: str | None = None) -> list[Path]:
    """The images that a list file names, one per line; blank lines are skipped.

    Args:
        path: of the list.
        base: the folder that its lines are relative to.
        within: lines of other folders than this one are skipped too.

    Raises:
        DataError: the file cannot be read or names no image, or an image does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(
            f"{path}: cannot be read as a list of images: one path per line, in UTF-8"
        ) from None
    images = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name or (within is not None and Path(name).parts[:1] != (within,)):
            continue
        image = base / name
        if not _is_file(image):
            raise DataError(
                f"{path}: line {number}: the image {image} is missing; correct the line (paths are"
                f" relative to {base})"
            )
        images.append(image)
    if not images:
        where = base if within is None else base / within
        raise DataError(
            f"{path}: the list names no image in {where}; give one per line, relative to {base}"
        )
    return images


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that the system refuses: too long, or with a zero byte
        return False
