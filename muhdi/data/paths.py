"""Finding files: roots, patterns, lists, and the label of each image."""

from __future__ import annotations

import os
import re
from glob import has_magic
from pathlib import Path

from muhdi.errors import MuhdiError


def expand_root(base: str, root: str) -> Path:
    """``root`` below the folder ``base``, with ``~`` and environment variables filled in.

    It must exist.
    """
    folder = Path(expand(base, "root"), expand(root, "root of the data set"))
    if not folder.is_dir():
        advice = (
            "correct it"
            if os.path.isabs(expand(root, "root"))
            else "give the right one with --set root=FOLDER"
        )
        raise MuhdiError(f"root: the folder {folder} does not exist; {advice}")
    return folder


def expand(path: str, key: str) -> str:
    """``path`` with ``~`` and environment variables filled in.

    ``key`` is where the user gave it.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    missing = re.search(r"\$\{?(\w+)\}?", expanded)
    if missing:
        raise MuhdiError(
            f"{key}: the environment variable {missing[1]} is not set; set it to the data's folder,"
            " or give --set root=FOLDER"
        )
    return expanded


def find_file(path: str, root: str, key: str) -> Path:
    """A file that a recipe names: as it is given, or below the recipe's root.

    Raises:
        MuhdiError: there is none.
    """
    given = Path(expand(path, key))
    places = [given] if given.is_absolute() else [given, Path(expand(root, "root")) / given]
    for place in places:
        if _is_file(place):
            return place
    raise MuhdiError(
        f"{key}: the file {' or '.join(map(str, dict.fromkeys(places)))} does not exist; correct"
        " the path"
    )


def matches(root: Path, pattern: str) -> list[Path]:
    """Files below ``root`` that a pattern with ``*`` and ``**`` matches, sorted."""
    anchor = Path(pattern).anchor
    try:
        found = list(Path(anchor or root).glob(pattern[len(anchor) :]))
    except (ValueError, NotImplementedError) as error:
        raise MuhdiError(
            f"images: {pattern!r} is not a pattern ({str(error).lower()}); ** must stand alone"
        ) from None
    return sorted((path for path in found if os.path.isfile(path)), key=lambda path: path.parts)


def fixed_part(pattern: str) -> Path:
    """The folders of a pattern before the first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def label_files(
    root: Path,
    pattern: str,
    images: list[Path],
    stems: list[str],
    base: Path,
    *,
    split: str,
    domain: str,
) -> list[Path]:
    """The file that a label pattern names for each image, of the ``stems``' ``{stem}``.

    ``{parent}`` is its folder
    relative to ``base``."""
    parents: dict[
        str, str
    ] = {}  # texts: paths take long to compare, and there may be hundreds of thousands of images
    files = []
    try:
        for image, stem in zip(images, stems, strict=True):
            folder, name = os.path.split(image)
            if folder not in parents:
                parents[folder] = os.path.relpath(folder, base)
            files.append(
                root / pattern.format(split=split, stem=stem, name=name, parent=parents[folder])
            )
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise MuhdiError(
            f"labels of {domain!r}: {pattern!r} may hold {{split}}, {{stem}}, {{name}} and"
            " {parent} only"
        ) from None
    return files


def all_or_none(
    images: list[Path], labels: list[Path], *, required: bool, domain: str, advice: str
) -> list[Path] | None:
    """The labels, if every image has one.

    None if no image has one and the split may be without labels.
    """
    missing = [
        (image, label)
        for image, label in zip(images, labels, strict=True)
        if not os.path.isfile(label)
    ]
    if not missing:
        return labels
    if len(missing) == len(images) and not required:
        return None
    image, label = missing[0]
    raise MuhdiError(
        f"{image}: its label {label} is missing ({len(missing)} of {len(images)} images of"
        f" {domain!r} have none); {advice}"
    )


def find_list(folders: list[Path], names: list[str], key: str) -> Path:
    """The first list file of these names in these folders; ``key`` is where the user named it."""
    candidates = [folder / expand(name, key) for name in names for folder in folders]
    for path in candidates:
        if _is_file(path):
            return path
    raise MuhdiError(
        f"{key}: the file {candidates[0]} does not exist (nor below"
        f" {', '.join(map(str, folders[1:]))}); correct it, or the names of the splits, or leave it"
        " out to take what is in the folders"
    )


def read_list(path: Path, base: Path, within: str | None = None) -> list[Path]:
    """The images that a list file names, one per line, relative to ``base``.

    Blank lines are skipped.

    ``within``: lines of other folders than this one are skipped too.

    Raises:
        MuhdiError: the file cannot be read or names no image, or an image does not exist.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise MuhdiError(
            f"{path}: cannot be read as a list of images: one path per line, in UTF-8"
        ) from None
    images = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name or (within is not None and Path(name).parts[:1] != (within,)):
            continue
        image = base / name
        if not _is_file(image):
            raise MuhdiError(
                f"{path}: line {number}: the image {image} is missing; correct the line (paths are"
                f" relative to {base})"
            )
        images.append(image)
    if not images:
        where = base if within is None else base / within
        raise MuhdiError(
            f"{path}: the list names no image in {where}; give one per line, relative to {base}"
        )
    return images


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that the system refuses: too long, or with a zero byte
        return False
