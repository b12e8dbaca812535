"""An image of what several runs predict, from what they left in their directories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.files import file_name
from muhdi.report.figures import write_figure
from muhdi.report.result_table import statistics_title
from muhdi.run.sample_files import predicted_name, sample_images
from muhdi.taxonomy import ClassSet

ROWS = 2
"""Samples that are shown of each domain."""
COLUMN = 2.3
"""Width of a column in inches, at 100 pixels each."""
LEGEND_CLASSES = 20
"""More classes than these have no room in the legend."""


def predictions_figure(
    out: Path,
    samples: Mapping[str, Path],
    results: Mapping[str, Results],
    classes: ClassSet,
    statistics: str,
    domains: Sequence[str] = (),
) -> None:
    """A grid: a row per domain and sample.

    Image, label, then every arm's prediction after the last step.

    Args:
        out: PNG to write.
        samples: arm -> folder of its samples; all arms hold the same images.
        results: arm -> its results, for the mIoU under each prediction.
        classes: for the legend.
        statistics: with which the shown predictions were made.
        domains: whose first sample is shown; none: the first `ROWS` of all domains.

    Raises:
        MuhdiError: the runs kept no samples.
    """
    from matplotlib.figure import Figure

    count = 1 if domains else ROWS
    domains = domains or next(iter(results.values())).domains
    first_folder = next(iter(samples.values()))
    kept = sample_images(first_folder.parent, domains[0])[:count]
    if not kept:
        raise MuhdiError(
            "evaluation.samples: no predictions were kept, so there is no image; set it to 1 or"
            " more"
        )
    columns = ["image", "label", *samples]
    rows = len(domains) * len(kept)
    height, width = _pixels(kept[0]).shape[:2]
    # One more inch for the title and the legend.
    figure_height = COLUMN * height / width * rows + 1.0
    figure = Figure(figsize=(COLUMN * len(columns), figure_height), layout="constrained")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for axis, title in zip(grid[0], columns, strict=True):
        axis.set_title(title, fontsize=9)
    for row, axes in enumerate(grid):
        domain = domains[row // len(kept)]
        stem = f"{file_name(domain)}_{row % len(kept)}"
        axes[0].set_ylabel(domain, fontsize=9)
        # Image and label are the same in all arms.
        _show(axes[0], first_folder / f"{stem}_image.png")
        _show(axes[1], first_folder / f"{stem}_label.png")
        for axis, (arm, folder) in zip(axes[2:], samples.items(), strict=True):
            _show(axis, folder / predicted_name(stem, statistics))
            axis.set_xlabel(_score(results[arm], statistics, domain), fontsize=8, labelpad=1)
    _add_legend(figure, classes)
    figure.suptitle(
        f"After the last step, {statistics_title(statistics)}; under each prediction the domain's"
        " mIoU in percent",
        fontsize=9,
    )
    write_figure(out, figure)


def _show(axis: Any, path: Path) -> None:
    """Draw an image; an empty cell where there is none, such as the label of an unlabelled one."""
    axis.set(xticks=[], yticks=[])
    if path.exists():
        axis.imshow(_pixels(path), interpolation="nearest")


def _score(results: Results, statistics: str, domain: str) -> str:
    """The domain's mIoU after the last step."""
    (score,) = results.matrix(statistics, [domain])[-1]
    return "" if score is None else f"{score:.1f}"


def _add_legend(figure: Any, classes: ClassSet) -> None:
    from matplotlib.patches import Patch

    patches = []
    for name, colour in zip(classes.classes, classes.hex_colours(), strict=True):
        patches.append(Patch(color=colour, label=name))
    figure.legend(
        handles=patches[:LEGEND_CLASSES],
        loc="outside lower center",
        ncols=min(len(patches), 10),
        fontsize=8,
        frameon=False,
    )


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    """An image file as RGB, uint8 [H, W, 3]."""
    return np.asarray(Image.open(path).convert("RGB"))
