"""How a public data set lies on the disk: where its images are, and where the label of each is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from muhdi.data.public.labels import Labels, raw_labels, read_mapillary_config
from muhdi.data.sets import Fit

Format = Literal["ids", "train_ids", "colours", "polygons"]


@dataclass(frozen=True)
class LabelKind:
    """One way in which a data set comes with labels.

    Attributes:
        format: what a label file holds.
        pattern: path below the root; ``{split}``, ``{parent}`` and ``{stem}`` are filled in per
            image.
        first_channel: the id is the first of an RGB image's three channels.
        table: the raw labels' name in `muhdi.data.public.labels.raw_labels`, where it is not the
            data set's.
        configs: files in the root of which the first that exists is read instead of ``table``.
        undrawn: names of polygons that leave what lies below them.
    """

    format: Format
    pattern: str
    first_channel: bool = False
    table: str | None = None
    configs: tuple[str, ...] = ()
    undrawn: tuple[str, ...] = ()

    def labels(self, dataset: str, root: Path) -> Labels:
        """The raw labels that such files hold."""
        for name in self.configs:
            if (root / name).is_file():
                return read_mapillary_config(root / name)
        return raw_labels(self.table or dataset)


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its files, below its root.

    ``{variant}`` in what follows stands for a part of the data set that the recipe may choose: a
    condition, a camera, an area.

    Attributes:
        root: where the documentation puts the data set.
        example: one of its images that have labels, relative to the root.
        folder: of the images; lists are relative to it. May hold ``{split}`` and ``{variant}``.
        images: pattern of the images below ``folder``, without ``endings``; may hold the same.
        endings: of the images' names; what comes before is the stem that labels share. May hold
            ``{variant}``, and ``*`` for any text.
        labels: the kinds of labels; ``auto`` takes the first that is there.
        train: names that the split's folder may have; the first that exists counts.
        val: the same.
        every: where splits have no folders: name of a split -> n, where every n-th image belongs to
            it, so that they share images.
        held_out: where splits have no folders: which images are ``val``, all others being
            ``train``. A number n: every n-th of the folders below ``folder``, or of the images if
            they lie in it directly. Patterns: the images whose names match one.
        val_variant: the only variant that has labels to be scored on; `val` is of it alone.
        fit: how images come to the size that the network sees.
        older: layouts of earlier releases, taken if the folder of this one is missing.
        shares_labels: whether several images have one label.
    """

    root: str
    example: str
    folder: str
    images: str
    endings: tuple[str, ...]
    labels: tuple[LabelKind, ...]
    train: tuple[str, ...] = ("train",)
    val: tuple[str, ...] = ("val",)
    every: Mapping[str, int] = field(default_factory=dict)
    held_out: int | tuple[str, ...] | None = None
    val_variant: str | None = None
    fit: Fit = "stretch"
    older: tuple[Layout, ...] = ()
    shares_labels: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of splits, where these have no folders; else empty."""
        if self.held_out is not None:
            return ("train", "val", "all")
        return tuple(self.every)


def stem_of(name: str, endings: tuple[str, ...]) -> str | None:
    """What comes before the ending of an image's name; None if it has none of the endings.

    Args:
        name: of the file.
        endings: ``*`` in one stands for any text; the case does not count.
    """
    for ending in endings:
        pattern = ".*".join(map(re.escape, ending.split("*")))
        found = re.fullmatch(f"(.*?){pattern}", name, re.IGNORECASE | re.DOTALL)
        if found is not None:
            return found[1]
    return None
