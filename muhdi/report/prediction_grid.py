"""Pictures from what a run left in its directory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.files import file_name, write_bytes
from muhdi.run.sample_files import sample_images
from muhdi.taxonomy import ClassSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 2
"""Samples that are shown of each domain."""


def predictions_figure(
    out: Path,
    samples: Mapping[str, Path],
    results: Mapping[str, Results],
    classes: ClassSet,
    kind: str,
) -> None:
    """A grid: a row per domain and sample.

    Image, label, then every arm's prediction after the last step.

    Args:
        out: PNG to write.
        samples: arm -> folder of its samples; all arms hold the same images.
        results: arm -> its results, for the mIoU over each column.
        classes: for the legend.
        kind: statistics with which the shown predictions were made.

    Raises:
        MuhdiError: the runs kept no samples.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    domains = next(iter(results.values())).domains
    columns = ["image", "label", *samples]
    shown = sample_images(next(iter(samples.values())).parent, domains[0])[:ROWS]
    if not shown:
        raise MuhdiError(
            "evaluation.samples: no predictions were kept, so there is no picture; set it to 1 or"
            " more"
        )
    rows = len(shown)
    height, width = _picture(shown[0]).shape[:2]
    figure = Figure(
        figsize=(2.3 * len(columns), 2.3 * height / width * len(domains) * rows + 1.0),
        layout="constrained",
    )
    grid = figure.subplots(len(domains) * rows, len(columns), squeeze=False)
    for row, axes in enumerate(grid):
        domain, number = domains[row // rows], row % rows
        for column, axis in zip(columns, axes, strict=True):
            folder = samples.get(column, next(iter(samples.values())))
            what = f"predicted_{kind}" if column in samples else column
            path = folder / f"{file_name(domain)}_{number}_{what}.png"
            if path.exists():
                axis.imshow(_picture(path), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if column in results:
                score = results[column].matrix(kind)[-1][domains.index(domain)]
                axis.set_xlabel("" if score is None else f"{score:.1f}", fontsize=8, labelpad=1)
            if row == 0:
                axis.set_title(column, fontsize=9)
        axes[0].set_ylabel(domain, fontsize=9)
    _add_legend(figure, classes)
    figure.suptitle(
        f"After the last step, {kind} statistics; under each prediction the domain's mIoU in"
        " percent",
        fontsize=9,
    )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_bytes(out, buffer.getvalue())


def _add_legend(figure: Figure, classes: ClassSet) -> None:
    from matplotlib.patches import Patch

    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in classes.colours]
    patches = [
        Patch(color=colour, label=name)
        for name, colour in zip(classes.classes, colours, strict=True)
    ]
    figure.legend(
        handles=patches[:20],
        loc="outside lower center",
        ncols=min(len(patches), 10),
        fontsize=8,
        frameon=False,
    )


def _picture(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(path).convert("RGB"))
