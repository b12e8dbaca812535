"""The picture of the drawn looks: ``python -m benchmarks.scenes OUT.png``.

A row for each look of the second edition, with the same streets, and their labels at last.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from muhdi.data.scenes.looks import LOOKS, draw_street
from muhdi.files import write_png
from muhdi.taxonomy import CLASS_SETS

STREETS = 5
SIZE = (128, 64)
ZOOM = 2


def main() -> None:
    """Write the picture."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.scenes OUT.png")
    seeds = [(3, number) for number in range(STREETS)]
    rows = []
    for look in LOOKS:
        rows.append(np.concatenate([draw_street(look, seed, SIZE)[0] for seed in seeds], 1))
    labels = np.concatenate([draw_street("day", seed, SIZE)[1] for seed in seeds], 1)
    coloured = CLASS_SETS["urban7"].palette_image(labels).convert("RGB")
    sheet = Image.fromarray(np.concatenate([*rows, np.asarray(coloured)]))
    size = (sheet.width * ZOOM, sheet.height * ZOOM)
    write_png(Path(sys.argv[1]), sheet.resize(size, Image.Resampling.NEAREST))


if __name__ == "__main__":
    main()
