"""A few images of a target whose labels take part in training: which ones, and opening those."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from muhdi.data.catalog import DataContext, open_split
from muhdi.data.lists import listed_lines
from muhdi.data.paths import find_file
from muhdi.data.sets import ImageSet, Sample, Size, spread_indices
from muhdi.errors import DataError, MuhdiError, RecipeError, nearest
from muhdi.recipe.stages import StepConfig


class ChosenImages(ImageSet):
    """Some images of a set, in the set's order.

    Args:
        images: the set.
        indices: of those that are chosen.
    """

    def __init__(self, images: ImageSet, indices: Sequence[int]) -> None:
        self.domain = images.domain
        self.labelled = images.labelled
        self.advice = images.advice
        self.fit = images.fit
        self._images = images
        self._indices = list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        return self._images.name(self._indices[index])

    def read(self, index: int, with_label: bool, draft: Size | None = None) -> Sample:
        return self._images.read(self._indices[index], with_label, draft)

    def stored_size(self, index: int) -> Size | None:
        return self._images.stored_size(self._indices[index])

    def key(self, index: int, with_label: bool) -> Any:
        return self._images.key(self._indices[index], with_label)

    def fingerprint(self) -> str:
        return f"{self._images.fingerprint()} {self._indices}"


def open_labelled(number: int, step: StepConfig, context: DataContext, root: str) -> ImageSet:
    """The target images of a step whose labels take part, with these labels and no other.

    Args:
        number: of the step, from 0.
        step: with ``labelled``, and so with a single target.
        context: of the recipe.
        root: the recipe's ``runtime.root``.

    Raises:
        MuhdiError: there are fewer images, the list cannot be used, or an image lacks its label;
            the message names the key, and the list or the file.
    """
    key = f"steps.{number}.labelled"
    assert step.labelled is not None
    (target,) = step.domains
    images = open_split(target, "train", context, labels=False)
    chosen = chosen_indices(step.labelled, images, root, key)
    names = [images.name(index) for index in chosen]
    few = replace(context, only=frozenset(names))
    try:
        found = open_split(target, "train", few, labels=True)
    except MuhdiError as error:
        raise DataError(f"{key}: {error}") from None
    if not found.labelled:
        raise DataError(f"{key}: {images.domain!r} has no labels for train; {found.advice}")
    places = {found.name(index): index for index in range(len(found))}
    if list(places) == names:
        return found
    # It opens its labels one by one, and has left it to us to open no other.
    return ChosenImages(found, [places[name] for name in names])


def labelled_note(images: ImageSet, total: int) -> str:
    """What the user is told of a step that a few labels take part in.

    Args:
        images: those with labels.
        total: number of all training images of the domain.
    """
    return f"{images.domain}: the labels of {len(images)} of its {total} training images take part"


def chosen_indices(labelled: int | str, images: ImageSet, root: str, key: str) -> list[int]:
    """Which images of a set are to have labels, in ascending order.

    Args:
        labelled: how many, evenly spread; or the file that lists them.
        images: the set.
        root: the recipe's ``runtime.root``.
        key: of the recipe, for messages.

    Raises:
        RecipeError: there are fewer images.
        DataError: the file is missing, or see `read_image_list`.
    """
    if isinstance(labelled, str):
        return read_image_list(find_file(labelled, root, key), images, key)
    if labelled > len(images):
        raise RecipeError(
            f"{key}: {labelled} labels are asked for, but {images.domain!r} has"
            f" {len(images)} training images; give at most {len(images)}"
        )
    return spread_indices(len(images), labelled)


def read_image_list(path: Path, images: ImageSet, key: str) -> list[int]:
    """The indices, in ascending order, of the images that a file lists.

    A line is the name of an image as muhdi shows it, or the end of one, from a folder's name on,
    that fits no other. Blank lines and lines that begin with ``#`` are skipped.

    Args:
        path: of the list.
        images: the set.
        key: of the recipe, for messages.

    Raises:
        DataError: the list cannot be read, is empty, or a line names no image, several, or one that
            was named before.
    """
    try:
        lines = listed_lines(path, "name")
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
    names = _Names(images)
    found: dict[int, int] = {}
    for number, text in lines:
        try:
            index = names.find(text)
        except DataError as error:
            raise DataError(f"{key}: {path}: line {number}: {error}") from None
        if index in found:
            raise DataError(
                f"{key}: {path}: line {number}: {text} is the image of line {found[index]} again;"
                " remove one of them"
            )
        found[index] = number
    if not found:
        raise DataError(f"{key}: {path}: the list names no image; give one per line")
    return sorted(found)


def short_names(images: ImageSet) -> list[str]:
    """The names of a set's images without the folders that all of them share.

    They stay true when the data are moved.
    """
    names = [images.name(index) for index in range(len(images))]
    folders = [os.path.dirname(name) for name in names]
    # Without folders at all there is nothing to share.
    if not all(folders):
        return names
    base = os.path.commonpath(folders)
    return [os.path.relpath(name, base).replace(os.sep, "/") for name in names]


class _Names:
    """Finds the images of a set by what a list calls them.

    Args:
        images: the set.
    """

    def __init__(self, images: ImageSet) -> None:
        self._domain = images.domain
        self._full = [images.name(index).replace(os.sep, "/") for index in range(len(images))]
        self._short = short_names(images)
        self._exact = {name: index for index, name in enumerate(self._short)}
        self._exact |= {name: index for index, name in enumerate(self._full)}

    def find(self, text: str) -> int:
        """The index of an image.

        Raises:
            DataError: there is none, or there are several.
        """
        name = text.replace(os.sep, "/").removeprefix("./")
        if name in self._exact:
            return self._exact[name]
        ends = f"/{name}"
        fitting = [index for index, full in enumerate(self._full) if full.endswith(ends)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            first, second = (self._full[index] for index in fitting[:2])
            raise DataError(f"{text} may be {first} or {second}; write more of its path")
        raise DataError(
            f"{self._domain!r} has no training image {text}{nearest(name, self._short)}"
        )
