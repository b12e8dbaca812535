"""Contact sheets: images, labels and overlays of a domain, with how frequent each class is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muhdi.files import write_bytes
from muhdi.preflight.inspect import Inspected
from muhdi.report.result_table import Cell, ResultTable
from muhdi.taxonomy import ClassSet


def contact_sheet(out: Path, found: Inspected, classes: ClassSet) -> None:
    """Write a PNG: a row per sample (image, label, overlay), and below a legend of the classes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = ("image", "label", "overlay") if found.labelled else ("image",)
    rows = len(found.samples)
    height, width = found.samples[0].image.shape[:2]
    bars = 0.22 * len(classes) + 0.7
    each = 3.4 * height / width
    figure = Figure(figsize=(3.4 * len(columns), each * rows + bars + 0.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(each * rows, bars))
    grid, below = parts
    palette = classes.palette()
    for row, sample in enumerate(found.samples):
        pictures = [sample.image]
        if sample.label is not None:
            colours = palette[sample.label]
            pictures += [colours, (0.5 * sample.image + 0.5 * colours).astype(np.uint8)]
        for column, picture in enumerate(pictures):
            axis = grid.add_subplot(rows, len(columns), row * len(columns) + column + 1)
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(columns[column], fontsize=9)
            if column == 0:
                axis.set_xlabel(Path(sample.name).name, fontsize=7, labelpad=1)
    counts = ", ".join(f"{count} {split}" for split, count in found.counts.items())
    figure.suptitle(
        f"{found.domain}: {counts} images; {found.split} is shown, black is ignored", fontsize=9
    )
    _bars(below.add_subplot(), found, classes)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_bytes(out, buffer.getvalue())


def _bars(axis: Any, found: Inspected, classes: ClassSet) -> None:
    """The legend: a bar per class, with its share of the labelled pixels."""
    colours = classes.hex_colours()
    shares = [share or 0.0 for share in found.shares()]
    places = range(len(classes))
    bars = axis.barh(
        places,
        [max(share, 0.6) for share in shares],
        color=colours,
        edgecolor="#888888",
        linewidth=0.5,
    )
    words = [f"{share:.2f} %" if found.labelled else "" for share in shares]
    axis.bar_label(bars, words, fontsize=7, padding=3)
    axis.set_yticks(places, classes.classes, fontsize=7)
    axis.invert_yaxis()
    axis.set(xticks=[], xlim=(0, 1.15 * max(1.0, *shares)))
    axis.spines[:].set_visible(False)
    what = (
        f"share of the labelled pixels of {found.looked} labels"
        if found.labelled
        else "classes (no labels here)"
    )
    axis.set_title(what, fontsize=8)


def frequencies_table(domains: Sequence[Inspected], classes: ClassSet) -> ResultTable:
    """Percent of the labelled pixels per class and domain, and the ignored share of all pixels."""
    labelled = [found for found in domains if found.labelled]
    shares = [found.shares() for found in labelled]
    rows: list[list[Cell]] = [
        [name, *(column[place] for column in shares)] for place, name in enumerate(classes.classes)
    ]
    totals = [int(found.pixels.sum()) + found.ignored for found in labelled]
    ignored: list[Cell] = [
        100 * found.ignored / total if total else None
        for found, total in zip(labelled, totals, strict=True)
    ]
    title = "Percent of the labelled pixels per class (last row: ignored, of all pixels)"
    return ResultTable(
        title, ["class", *(f.domain for f in labelled)], [*rows, ["ignored", *ignored]]
    )


def warnings(domains: Sequence[Inspected], classes: ClassSet) -> list[str]:
    """What looks wrong.

    Classes that never occur, ids that the table does not list, labels that are mostly ignored.
    """
    lines = []
    for found in domains:
        if not found.labelled:
            lines.append(f"{found.domain}: has no labels, so it is never scored")
            continue
        absent = [
            name for name, count in zip(classes.classes, found.pixels, strict=True) if not count
        ]
        if absent:
            lines.append(
                f"{found.domain}: {', '.join(absent)} never occurs in {found.looked} labels; look"
                " at its 'ids'"
            )
        if found.unlisted:
            ids = ", ".join(
                f"{raw} ({count:,} pixels)" for raw, count in list(found.unlisted.items())[:8]
            )
            lines.append(f"{found.domain}: raw ids that its table does not list are ignored: {ids}")
        if found.ignored > found.pixels.sum():
            lines.append(
                f"{found.domain}: more than half of the pixels are ignored; look at its 'ids'"
            )
    return lines
