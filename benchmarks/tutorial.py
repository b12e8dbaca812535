"""What docs/tutorial.md gains: its folders and its recipe, with other retentions and the control.

    python -m benchmarks.tutorial FOLDER [--jobs N] [--json FILE]

Draws the tutorial's folders in FOLDER, writes its recipe with ``muhdi new``, trains every arm, and
prints the tutorial's table. The network is the one that ``muhdi new`` writes: `small`, or
EfficientNet-Lite0 where its weights are installed. No setting was chosen on these seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import muhdi
from muhdi.preflight.new import new_recipe
from muhdi.report.result_table import Cell, markdown, text

DOCS = Path(__file__).parents[1] / "docs"
MEASURED = Path(__file__).parent / "measured" / "tutorial.json"
SEEDS = (11, 12, 13)
PLACE = "my_city"
LABELS = 'steps.0.target.labels="{split}/labels/{stem}.png"'
CONTROL = "control: no adaptation"
ARMS: dict[str, tuple[str, ...]] = {
    CONTROL: ("every_step.adaptation=none", "every_step.retention=none"),
    "self-training, nothing kept": ("every_step.retention=none",),
    "self-training, `muhdi`": ("every_step.retention=muhdi",),
    "self-training, `style`": ("every_step.retention=style",),
}
"""What each arm changes of the recipe."""


def draw_folders() -> None:
    """Run the tutorial's own code, which draws its folders where the program is."""
    block = re.search(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(), re.S)
    assert block is not None
    exec(compile(block[1], "docs/tutorial.md", "exec"), {})


def recipes() -> list[muhdi.Recipe]:
    """The recipe that ``muhdi new`` writes for them, of every arm."""
    written, _ = new_recipe(Path("simulator"), [Path(PLACE)], "mine")
    path = Path("mine.yml")
    path.write_text(written)
    return [
        muhdi.Recipe.load(path, [LABELS, *settings], name=_run(arm))
        for arm, settings in ARMS.items()
    ]


def _run(arm: str) -> str:
    """What the runs of an arm are called, without the seed."""
    return re.sub(r"\W+", "_", arm).strip("_")


def scores(arm: str, experiments: Path) -> list[dict[str, Any]]:
    """The mIoU on the new place, a row for each seed.

    Args:
        arm: of `ARMS`.
        experiments: where its runs lie.

    Returns:
        With every choice of statistics: before and after the step, in percent.
    """
    rows = []
    for seed in SEEDS:
        file = experiments / "snapshots" / f"{_run(arm)}_seed{seed}" / "results.json"
        results = muhdi.Results.from_json(json.loads(file.read_text()))
        place = results.domains.index(PLACE)
        found = {}
        for kind in results.statistics:
            matrix = results.matrix(kind)
            found[kind] = [matrix[0][place], matrix[-1][place]]
        rows.append({"arm": arm, "seed": seed, "miou_before_and_after": found})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The tutorial's table: every seed of every arm.

    Args:
        rows: see `scores`.
    """
    lines: list[list[Cell]] = []
    for kind in rows[0]["miou_before_and_after"]:
        before = [row["miou_before_and_after"][kind][0] for row in rows if row["arm"] == CONTROL]
        line: list[Cell] = [f"`{kind}`", _each(before)]
        for arm in ARMS:
            after = [row["miou_before_and_after"][kind][1] for row in rows if row["arm"] == arm]
            line.append(_each(after))
        lines.append(line)
    return markdown(["statistics", "before", *ARMS], lines)


def _each(values: Sequence[float | None]) -> str:
    return ", ".join(map(text, values))


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    file = options.json and options.json.absolute()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    experiments = Path("experiments")
    draw_folders()
    tried = recipes()
    muhdi.sweep(tried, SEEDS, [], experiments, options.jobs)
    rows = [row for arm in ARMS for row in scores(arm, experiments)]
    if file:
        measured = {
            "what": "mIoU on my_city before and after the step; see benchmarks/tutorial.py",
            "network": tried[0].model.backbone.name,
            "rows": rows,
        }
        file.write_text(json.dumps(measured, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
