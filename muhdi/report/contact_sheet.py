"""Contact sheets: images, labels and overlays of a domain, with how frequent each class is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muhdi.data.channels import colours_of
from muhdi.data.sets import Sample
from muhdi.preflight.inspect import Inspected
from muhdi.report.figures import write_figure
from muhdi.report.result_table import Cell, ResultTable
from muhdi.taxonomy import ClassSet

Pixels = npt.NDArray[np.uint8]
"""An RGB image, uint8 [H, W, 3]."""

# In inches, at 100 pixels each.
COLUMN = 3.4
BAR = 0.22
ACROSS = 2
"""Images side by side where there are no labels."""
UNLISTED = 8
"""Raw ids that a warning names."""


def contact_sheet(out: Path, found: Inspected, classes: ClassSet) -> None:
    """Write a PNG of a domain's samples.

    With labels: a row per sample, of image, label and overlay, and the legend below, a bar per
    class in its colour. Without: the images, side by side.
    """
    counts = ", ".join(f"{count} {split}" for split, count in found.counts.items())
    figure = _with_labels(found, classes) if found.labelled else _images_alone(found)
    meaning = "black is ignored" if found.labelled else "there are no labels"
    figure.suptitle(
        f"{found.domain}: {counts} images\n{found.split} is shown, {meaning}", fontsize=9
    )
    write_figure(out, figure)


def _with_labels(found: Inspected, classes: ClassSet) -> Any:
    from matplotlib.figure import Figure

    columns = ("image", "label", "overlay")
    rows_height = _height(found) * len(found.samples)
    bars_height = BAR * len(classes) + 0.7
    figure = Figure(
        figsize=(COLUMN * len(columns), rows_height + bars_height + 0.6), layout="constrained"
    )
    # Two parts, so that the long names of classes do not push the images aside.
    parts: Any = figure.subfigures(2, 1, height_ratios=(rows_height, bars_height))
    grid, below = parts
    axes = grid.subplots(len(found.samples), len(columns), squeeze=False)
    for row, sample in zip(axes, found.samples, strict=True):
        _draw_sample(row, sample, classes.palette())
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=9)
    _draw_bars(below.add_subplot(), found, classes)
    return figure


def _images_alone(found: Inspected) -> Any:
    from matplotlib.figure import Figure

    columns = min(ACROSS, len(found.samples))
    rows = math.ceil(len(found.samples) / columns)
    figure = Figure(
        figsize=(COLUMN * columns, (_height(found) + 0.2) * rows + 0.6), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, sample in zip(axes, found.samples, strict=False):
        _draw_sample([axis], sample, None)
    for axis in axes[len(found.samples) :]:
        axis.set_visible(False)
    return figure


def _height(found: Inspected) -> float:
    """Of an image in the sheet, in inches."""
    height, width = found.samples[0].image.shape[:2]
    return COLUMN * float(height / width)


def _draw_sample(row: Sequence[Any], sample: Sample, palette: Pixels | None) -> None:
    """Draw a sample into a row of axes, and its file's name below the first."""
    shown = colours_of(sample.image)
    images = [shown]
    if sample.label is not None and palette is not None:
        colours = palette[sample.label]
        overlay = 0.5 * shown + 0.5 * colours
        images += [colours, overlay.astype(np.uint8)]
    for axis in row:
        axis.set(xticks=[], yticks=[])
    for axis, image in zip(row, images, strict=False):
        axis.imshow(image, interpolation="nearest")
    row[0].set_xlabel(Path(sample.name).name, fontsize=7, labelpad=1)


def _draw_bars(axis: Any, found: Inspected, classes: ClassSet) -> None:
    """The legend: a bar per class, as long as its percentage of the labelled pixels."""
    percent = [value or 0.0 for value in found.shares()]
    positions = range(len(classes))
    bars = axis.barh(
        positions,
        # Never so short that its colour could not be seen.
        [max(value, 0.6) for value in percent],
        color=classes.hex_colours(),
        edgecolor="#888888",
        linewidth=0.5,
    )
    axis.set_yticks(positions, classes.classes, fontsize=7)
    # The first class is at the top, as in the class table.
    axis.invert_yaxis()
    # Room at the right for the numbers.
    axis.set(xticks=[], xlim=(0, 1.15 * max(1.0, *percent)))
    axis.spines[:].set_visible(False)
    axis.bar_label(bars, [f"{value:.2f} %" for value in percent], fontsize=7, padding=3)
    axis.set_title(f"percent of the labelled pixels of {found.looked} labels", fontsize=8)


def frequencies_table(domains: Sequence[Inspected], classes: ClassSet) -> ResultTable:
    """Percent of the labelled pixels per class and domain, and of all pixels that are ignored.

    Of the source also how many of the labels that were counted hold the class; where stages sample
    rare classes, how many images are drawn for it, and in how many percent of the draws.
    """
    labelled = [found for found in domains if found.labelled]
    columns: dict[str, list[Cell]] = {}
    for found in labelled:
        columns[found.domain] = [*found.shares(), _ignored_percent(found)]
        if found.split == "train":
            columns |= _source_columns(found)
    names = [*classes.classes, "ignored"]
    rows: list[list[Cell]] = []
    for index, name in enumerate(names):
        rows.append([name, *(column[index] for column in columns.values())])
    title = "Percent of the labelled pixels per class (last row: ignored, of all pixels)"
    for found in labelled:
        if found.split == "train":
            title += f"; images: how many of {found.looked} labels hold it"
    return ResultTable(title, ["class", *columns], rows)


def _source_columns(found: Inspected) -> dict[str, list[Cell]]:
    """What else is said of the source, by the column's title."""
    columns: dict[str, list[Cell]] = {}
    columns[f"{found.domain} images"] = [*map(str, found.images.tolist()), None]
    kinds = list(dict.fromkeys(found.rare.values()))
    for rare in kinds:
        where = f" ({rare.where})" if len(kinds) > 1 else ""
        numbers = [str(len(images)) for images in rare.images]
        columns[f"drawn from{where}"] = [*numbers, None]
        columns[f"drawn %{where}"] = [*(100 * rare.probabilities).tolist(), None]
    return columns


def _ignored_percent(found: Inspected) -> float | None:
    total = int(found.pixels.sum()) + found.ignored
    return 100 * found.ignored / total if total else None


def warnings(domains: Sequence[Inspected], classes: ClassSet) -> list[str]:
    """What looks wrong.

    Classes that never occur, ids that the table does not list, labels that are mostly ignored.
    """
    lines = []
    for found in domains:
        if not found.labelled:
            lines.append(f"{found.domain}: has no labels, so it is never scored")
            continue
        absent = [classes.classes[index] for index in np.flatnonzero(found.pixels == 0)]
        if absent:
            lines.append(
                f"{found.domain}: {', '.join(absent)} never occurs in {found.looked} labels; look"
                " at its 'ids'"
            )
        if found.unlisted:
            # The first are named: one wrong table can make hundreds of ids unknown.
            named = list(found.unlisted.items())[:UNLISTED]
            ids = ", ".join(f"{raw} ({count:,} pixels)" for raw, count in named)
            lines.append(f"{found.domain}: raw ids that its table does not list are ignored: {ids}")
        if found.ignored > found.pixels.sum():
            lines.append(
                f"{found.domain}: more than half of the pixels are ignored; look at its 'ids'"
            )
        for rare in dict.fromkeys(found.rare.values()):
            lines += rare.notes(classes.classes)
    return lines
