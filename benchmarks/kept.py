"""README's picture: ``python -m benchmarks.kept DEMO OUT.png``.

From the folder of a finished ``muhdi demo``, the pictures of its page: the first sample of every
target, what the source's network makes of it, and what the network after the last step does,
without and with what keeps the old.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from muhdi.report.demo import PictureRow, picture_rows
from muhdi.report.figures import write_figure
from muhdi.report.result_table import with_statistics
from muhdi.report.run_files import read_run
from muhdi.taxonomy import CLASS_SETS, ClassSet
from muhdi.workflows.demo import SHIPPED

COLUMN = 2.3
"""Width of a column in inches, at 100 pixels each."""


def main() -> None:
    """Write the picture."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.kept DEMO OUT.png")
    demo, out = map(Path, sys.argv[1:])
    arms = {}
    for title, name in SHIPPED.items():
        found = sorted((demo / "snapshots").glob(f"{name}_seed*"))
        if not found:
            sys.exit(f"{demo}: no finished demo, it has no run of {name}")
        arms[title] = [read_run(found[0])]
    statistics = arms["kept"][0].results.main_statistics
    rows = picture_rows(arms, statistics)
    under = f"under each prediction the domain's mIoU in percent, {with_statistics(statistics)}"
    grid(out, rows, CLASS_SETS["urban7"], f"After the last step; {under}")


def grid(out: Path, rows: Sequence[PictureRow], classes: ClassSet, title: str) -> None:
    """A row of pictures for each sample, and the colours' names below."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = len(rows[0].pictures)
    height, width = np.asarray(Image.open(rows[0].pictures[0].file)).shape[:2]
    inches = (COLUMN * columns, COLUMN * height / width * len(rows) + 1.0)
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        line[0].set_ylabel(row.domain, fontsize=9)
        for picture, axis in zip(row.pictures, line, strict=True):
            show(axis, picture.file)
            axis.set_xlabel(picture.score, fontsize=8, labelpad=1)
    for picture, axis in zip(rows[0].pictures, axes[0], strict=True):
        axis.set_title(picture.title, fontsize=9)
    patches = []
    for name, colour in zip(classes.classes, classes.hex_colours(), strict=True):
        patches.append(Patch(color=colour, label=name))
    figure.legend(handles=patches, loc="outside lower center", ncols=7, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=9)
    write_figure(out, figure)


def show(axis: Any, path: Path) -> None:
    """Draw an image file without its axes."""
    axis.set(xticks=[], yticks=[])
    axis.imshow(np.asarray(Image.open(path).convert("RGB")), interpolation="nearest")


if __name__ == "__main__":
    main()
