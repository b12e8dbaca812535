"""Finding files: roots, patterns, lists, and the label of each image."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import escape, has_magic
from pathlib import Path

from muhdi.errors import DataError, RecipeError

IMAGE_ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff"),
        *(".webp", ".avif", ".jp2", ".j2k", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".gif"),
    )
)
"""Endings, in small letters, of files that are taken for images wherever a folder is searched."""


@dataclass(frozen=True)
class SplitImages:
    """The images of one split.

    Attributes:
        paths: the image files.
        name: what label patterns have in place of ``{split}``.
        base: the folder that ``{parent}`` in label patterns is relative to.
        chosen: whether they are some of the split's images, of which each needs its label.
    """

    paths: list[Path]
    name: str
    base: Path
    chosen: bool = False

    def advice(self, otherwise: str) -> str:
        """What to do about a missing label: ``otherwise``, unless the images were chosen."""
        if not self.chosen:
            return otherwise
        return "add it, or list images that have labels: labelled: FILE"


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
    """``path`` with ``~`` and environment variables filled in, unless it is there as it is.

    Args:
        path: as the user gave it.
        key: the key under which the user gave it.

    Raises:
        RecipeError: an environment variable is not set.
    """
    if "$" in path and os.path.exists(os.path.expanduser(path)):
        return os.path.expanduser(path)  # its name holds the sign
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

    ``**`` enters linked folders, each folder once. Hidden files are left out, and the case of an
    ending does not count. Where the pattern does not say an ending, only images match.

    Raises:
        RecipeError: it is not a pattern.
    """
    anchor = Path(pattern).anchor
    parts = Path(pattern[len(anchor) :]).parts
    if not parts or any("**" in part and part != "**" for part in parts):
        raise RecipeError(
            f"images: {pattern!r} is not a pattern; ** must be a whole folder name, and the last"
            " part must name files"
        )
    files = _matching(Path(anchor or root), parts, set())
    # Folder by folder, not letter by letter: "a/x" comes before "a-b/x" on every system.
    return sorted(set(files), key=lambda path: path.parts)


def _matching(folder: Path, parts: tuple[str, ...], entered: set[tuple[int, int]]) -> list[Path]:
    """Files below a folder that the parts of a pattern match.

    Args:
        folder: where the first part applies.
        parts: of the pattern, at least one.
        entered: folders that the nearest ``**`` has been in, so that links do not lead in circles.
    """
    head, *others = parts
    rest = tuple(others)
    if head == "**":
        if not rest or not _enter(folder, entered):
            return []
        found = _matching(folder, rest, set())
        for inner in subfolders(folder):
            found += _matching(inner, parts, entered)
        return found
    name = _without_escapes(head)
    if name is not None:
        path = folder / name
        if rest:
            return _matching(path, rest, entered) if os.path.isdir(path) else []
        return [path] if _is_file(path) else []
    if rest:
        inside = [path for path in subfolders(folder) if fnmatchcase(path.name, head)]
        return [file for path in inside for file in _matching(path, rest, entered)]
    return [path for path in _files(folder) if _name_matches(path.name, head)]


def _name_matches(name: str, pattern: str) -> bool:
    """Whether the name of a file matches, whatever the case of its ending."""
    stem, ending = os.path.splitext(pattern)
    if not ending or has_magic(ending):
        return fnmatchcase(name, pattern) and is_image(name)
    own_stem, own_ending = os.path.splitext(name)
    return fnmatchcase(own_stem, stem) and own_ending.lower() == ending.lower()


def is_image(name: str) -> bool:
    """Whether a file's name ends like that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_ENDINGS


@dataclass
class Listing:
    """What a folder holds, hidden files and folders left out.

    Attributes:
        files: that were looked for, sorted.
        left_out: number of other files by their ending, or ``hidden``.
    """

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def note(self) -> str:
        """A sentence on the files that were left out; empty if there are none."""
        count = sum(self.left_out.values())
        if not count:
            return ""
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.left_out.most_common())
        return f"{count} other file{'s' if count > 1 else ''} left out: {kinds}"


def list_files(root: Path, endings: Collection[str] = IMAGE_ENDINGS) -> Listing:
    """All files below a folder with one of these endings, in any case; links are followed.

    Args:
        root: the folder.
        endings: in small letters, with their dots.
    """
    listing = Listing()
    entered: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop(0)
        if not _enter(folder, entered):
            continue
        waiting[:0] = subfolders(folder)
        for path in _files(folder, listing.left_out):
            ending = path.suffix.lower()
            if ending in endings:
                listing.files.append(path)
            else:
                listing.left_out[ending or "without an ending"] += 1
    listing.files.sort(key=lambda path: path.parts)
    return listing


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, linked ones last, without hidden ones."""
    found = []
    for entry in _entries(folder):
        if _is_hidden(entry.name):
            continue
        with suppress(OSError):  # a link that leads nowhere, or to itself
            if entry.is_dir():
                found.append((entry.is_symlink(), entry.name))
    # A folder that is reached twice counts at its own place, not at the link's.
    return [folder / name for _, name in sorted(found)]


def _files(folder: Path, left_out: Counter[str] | None = None) -> list[Path]:
    """The files in a folder, without hidden ones, which are counted."""
    found = []
    for entry in _entries(folder):
        with suppress(OSError):
            if not entry.is_file():
                continue
            if not _is_hidden(entry.name):
                found.append(folder / entry.name)
            elif left_out is not None:
                left_out["hidden"] += 1
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(
            f"{folder}: the folder cannot be read: {error.strerror or error}; correct its"
            " permissions"
        ) from None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _enter(folder: Path, entered: set[tuple[int, int]]) -> bool:
    """Note a folder; False if it has been entered before, or is not there."""
    try:
        facts = folder.stat()
    except OSError:
        return False
    identity = (facts.st_dev, facts.st_ino)
    if identity in entered:
        return False
    entered.add(identity)
    return True


def _without_escapes(part: str) -> str | None:
    """The one name that a part of a pattern stands for; None if it has wildcards."""
    plain = re.sub(r"\[([*?\[])\]", r"\1", part)
    return plain if escape(plain) == part or not has_magic(part) else None


def fixed_part(pattern: str) -> Path:
    """The folders of a pattern before the first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        name = _without_escapes(part)
        if name is None:
            break
        fixed.append(name)
    return Path(*fixed)


def label_files(
    root: Path,
    pattern: str,
    images: SplitImages,
    stems: list[str],
    domain: str,
    key: str = "labels",
) -> list[Path]:
    """The file that a label pattern names for each image, whether or not it exists.

    Args:
        root: of the data set.
        pattern: relative to the root; may hold ``{split}``, ``{stem}``, ``{name}`` (of the image
            file) and ``{parent}`` (its folder, relative to the images' base).
        images: of the split.
        stems: what ``{stem}`` stands for, by image.
        domain: name of the domain, for messages.
        key: of the pattern, for messages.

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
            filled = fill_label_pattern(
                pattern, split=images.name, stem=stem, name=name, parent=parent
            )
            files.append(root / filled)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise RecipeError(
            f"{key} of {domain!r}: {pattern!r} may hold {{split}}, {{stem}}, {{name}} and"
            " {parent} only; {stem:_end} leaves _end out"
        ) from None
    return files


class _Part(str):
    """A part of an image's path in a label pattern: ``{stem:_end}`` leaves ``_end`` out.

    Of a folder, ``{parent:rgb=labels}`` has ``labels`` in place of ``rgb``.
    """

    def __format__(self, spec: str) -> str:
        before, changes, after = spec.partition("=")
        return self.replace(before, after) if changes else self.removesuffix(spec)


def fill_label_pattern(pattern: str, **parts: str) -> str:
    """A label's path: a pattern with the parts of its image's path filled in.

    Args:
        pattern: as a recipe has it.
        parts: by what stands in braces.
    """
    return pattern.format(**{key: _Part(part) for key, part in parts.items()})


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
    """The images that a list file names, one per line, each once; blank lines are skipped.

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
    # An image that is listed twice would count twice in scores.
    return list(dict.fromkeys(images))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that the system refuses: too long, or with a zero byte
        return False
