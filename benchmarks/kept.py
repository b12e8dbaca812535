"""README's picture: ``python -m benchmarks.kept DEMO OUT.png``.

From the folder of a finished ``muhdi demo``, the first sample of the first and of the last target
after the last step: what the network of the source makes of it, what is left of the first target
after sequential self-training, and with MuHDi.
"""

from __future__ import annotations

import sys
from pathlib import Path

from muhdi.evaluation.results import Results
from muhdi.report.prediction_grid import predictions_figure
from muhdi.taxonomy import CLASS_SETS

ARMS = {
    "scenes_none": "before (no adaptation)",
    "scenes_selftrain": "sequential",
    "scenes_selftrain_muhdi": "kept (MuHDi)",
}
"""Recipes of the demo, and their titles."""
SEED = 41
"""The demo's own."""


def main() -> None:
    """Write the picture."""
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.kept DEMO OUT.png")
    demo, out = map(Path, sys.argv[1:])
    runs = {title: demo / "snapshots" / f"{name}_seed{SEED}" for name, title in ARMS.items()}
    results = {title: Results.load(run) for title, run in runs.items()}
    samples = {title: run / "samples" for title, run in runs.items()}
    targets = next(iter(results.values())).targets
    shown = [targets[0], targets[-1]]
    classes = CLASS_SETS["urban7"]
    predictions_figure(out, samples, results, classes, "domain", shown)


if __name__ == "__main__":
    main()
