"""The images to predict on, to adapt to, and to verify an export on.

Files, folders, patterns and videos, each with the name that its outputs get; and the further files
that hold channels of an image.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.channels import Channels
from muhdi.data.files import read_image
from muhdi.data.lists import read_pairs
from muhdi.data.paths import IMAGE_ENDINGS, fill_label_pattern, fixed_part, list_files, matches
from muhdi.errors import MuhdiError, RecipeError, check_type
from muhdi.recipe.section import RGB

VIDEOS = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"))
INPUTS = IMAGE_ENDINGS | VIDEOS
_OF_PAGES = frozenset((".tif", ".tiff", ".gif", ".png", ".apng", ".webp"))


@dataclass(frozen=True)
class Input:
    """One file.

    Attributes:
        path: of the file.
        name: of its outputs, relative and without an ending: the file's place in the folder that
            was given.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether it holds many frames."""
        return is_video(self.path)


def is_video(path: Path) -> bool:
    """Whether a file is named like a film."""
    return path.suffix.lower() in VIDEOS


def find_inputs(arguments: Sequence[str], ours: Sequence[Path] = ()) -> list[Input]:
    """The files that the arguments stand for, each once.

    Args:
        arguments: files, folders (everything inside that is named like an image or a video), and
            patterns with ``*`` and ``**``. With several folders, names of outputs begin with the
            folder's.
        ours: folders of outputs; what is in them is not an input, unless it is named itself.

    Raises:
        MuhdiError: an argument stands for no file.
    """
    folders = len({os.path.realpath(argument) for argument in arguments if Path(argument).is_dir()})
    found: dict[str, Input] = {}
    for argument in arguments:
        for item in _expand(
            argument, [os.path.realpath(folder) for folder in ours], named=folders > 1
        ):
            found.setdefault(os.path.realpath(item.path), item)
    return _distinct(list(found.values()))


def list_inputs(path: Path) -> list[Input]:
    """The files that a text file names, one a line, in its order; names begin where they part.

    Raises:
        MuhdiError: the list cannot be read, a file is missing, or it names labels.
    """
    images, labels = read_pairs(path, path.parent)
    if labels is not None:
        raise MuhdiError(
            f"{path}: names labels, whose meaning only a recipe can say; list the images alone"
        )
    folders = [os.path.abspath(image.parent) for image in images]
    base = Path(os.path.commonpath(folders))
    return _distinct([Input(image, _relative(image.absolute(), base)) for image in images])


def _expand(argument: str, ours: Sequence[str], *, named: bool) -> list[Input]:
    path = Path(argument)
    if path.is_file():
        return [Input(path, Path(path.stem))]
    if path.is_dir():
        base = path.absolute().parent if named else path
        files = _inside(path, ours)
        if not files:
            raise MuhdiError(
                f"{path}: holds no image; known endings are {', '.join(sorted(INPUTS))}"
            )
        return [Input(file, _relative(file, base)) for file in files]
    if not has_magic(argument):
        raise MuhdiError(f"{path}: there is no such file or folder; correct the path")
    files = [
        file for file in matches(Path(), argument) if _is_input(file) and not _lies_in(file, ours)
    ]
    if not files:
        raise MuhdiError(f"{argument}: the pattern matches no image; correct it")
    return [Input(file, _relative(file, fixed_part(argument))) for file in files]


def check_channels(files: Sequence[Path], channels: Channels, bands: Sequence[str]) -> None:
    """Refuse, before anything is read, what cannot have the channels that a network takes.

    Args:
        files: that are to be read.
        channels: that the network takes.
        bands: patterns, see `band_files`.

    Raises:
        RecipeError: the network takes colours alone, or a pattern is wrong.
        MuhdiError: a file is a film, and the network takes more than colours.
    """
    check_type("bands", bands, list, tuple)
    if bands and channels.count == RGB:
        raise RecipeError(
            f"bands: {bands[0]!r} names further channels, but the network takes {RGB}; leave it out"
        )
    for file in files:
        if is_video(file) and channels.count != RGB:
            raise MuhdiError(
                f"{file}: a film has {RGB} channels, the network takes {channels.count}; give"
                " its frames as images"
            )
        band_files(file, bands)


def band_files(image: Path, patterns: Sequence[str]) -> list[Path]:
    """The further files of an image, whether or not they exist.

    Args:
        image: its file.
        patterns: with ``{parent}`` (the image's folder), ``{stem}`` and ``{name}``, as those of
            labels in a recipe.

    Raises:
        RecipeError: a pattern holds something else in braces.
    """
    parts = {"parent": str(image.parent), "stem": image.stem, "name": image.name}
    found = []
    for pattern in patterns:
        try:
            filled = fill_label_pattern(pattern, **parts)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError):
            raise RecipeError(
                f"bands: {pattern!r} may hold {{parent}}, {{stem}} and {{name}} only"
            ) from None
        found.append(Path(filled))
    return found


def read_input(path: Path, channels: Channels, bands: Sequence[str]) -> npt.NDArray[np.uint8]:
    """An image file, with its further files, uint8 [H, W, C].

    Args:
        path: of the file.
        channels: that the image has.
        bands: patterns of its further files, see `band_files`.

    Raises:
        MuhdiError: a file is missing or cannot be read, or there are other channels.
    """
    return read_image(path, None, channels, band_files(path, bands))


def left_out(arguments: Sequence[str], inputs: Sequence[Input]) -> list[str]:
    """Notes on what is not predicted: other files in folders, and further pages of images.

    Args:
        arguments: as for `find_inputs`.
        inputs: that were found.
    """
    notes = []
    for argument in arguments:
        note = list_files(Path(argument), INPUTS).note() if Path(argument).is_dir() else ""
        if note:
            notes.append(f"{argument}: {note}")
    for item in inputs:
        pages = _pages(item.path) if item.path.suffix.lower() in _OF_PAGES else 1
        if pages > 1:
            notes.append(f"{item.path}: {pages - 1} further pages left out; the first is predicted")
    return notes


def _pages(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # prediction will report it
        return 1


def _inside(folder: Path, ours: Sequence[str]) -> list[Path]:
    return [file for file in list_files(folder, INPUTS).files if not _lies_in(file, ours)]


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in INPUTS and path.is_file()


def _lies_in(path: Path, folders: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real.startswith(os.path.join(folder, "")) for folder in folders)


def _relative(path: Path, base: Path) -> Path:
    return Path(os.path.relpath(path, base)).with_suffix("")


def _distinct(inputs: list[Input]) -> list[Input]:
    """The inputs with names of which no two are alike.

    Those that differ in their endings alone keep these.
    """
    count = Counter(item.name for item in inputs)
    named = [
        replace(i, name=i.name.with_name(i.path.name)) if count[i.name] > 1 else i for i in inputs
    ]
    taken: dict[Path, Path] = {}
    for item in named:
        other = taken.setdefault(item.name, item.path)
        if other != item.path:
            raise MuhdiError(
                f"{item.path}: its outputs would have the name of those of {other}; give the folder"
                " that holds both, or predict them one after another"
            )
    return named
