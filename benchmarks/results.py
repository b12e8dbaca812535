"""Runs the accuracy comparisons that README and docs/results.md quote, and writes docs/results.md.

    MUHDI_CAMVID=FOLDER python benchmarks/results.py [--only scenes|camvid] [--jobs N] [--experiments DIR]

Finished runs are not repeated, so it can be stopped and started again; with ``--only`` the other benchmark's section
stays as it is. Nothing was tuned on these seeds.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

import muhdi
from muhdi.config import KINDS
from muhdi.report.reading import reading
from muhdi.report.tables import arms_rows, markdown, number

CAMVID_SEEDS, SCENES_SEEDS = (11, 12, 13), (41, 42, 43)
METHODS = ("none", "advent", "advent_distill", "advent_muhdi", "selftrain", "selftrain_distill", "selftrain_muhdi")
CAMVID = ["camvid_source", *(f"camvid_{method}" for method in METHODS), "camvid_oracle"]
SCENES = ["scenes_none", "scenes_selftrain", "scenes_selftrain_distill", "scenes_selftrain_muhdi"]


def section(arms: dict[str, list[muhdi.Results]], prefix: str, seeds: Sequence[int]) -> str:
    """Tables of one benchmark: a summary per kind of statistics, every seed, the commands, the reading."""
    parts = []
    for kind in KINDS:
        parts.append(
            f"\n**`{kind}` statistics**, after the last step, mean ± standard deviation of {len(seeds)} seeds\n"
        )
        parts.append(markdown(*arms_rows(arms, kind)))
    parts.append("\nEvery seed: target average / forgetting, in the order " + ", ".join(map(str, seeds)) + ".\n")
    rows = [[name, *("; ".join(_each(run, kind) for run in runs) for kind in KINDS)] for name, runs in arms.items()]
    parts.append(markdown(["arm", *KINDS], rows))
    controls = {
        f"{prefix}_selftrain": "sequential self-training",
        f"{prefix}_selftrain_distill": "single-head distillation",
        f"{prefix}_none": "no adaptation",
    }
    parts.append("\nReading, computed from the numbers:\n")
    parts += [f"* {reading(arms, kind, f'{prefix}_selftrain_muhdi', controls)}" for kind in KINDS]
    parts.append("\nThe command of every row:\n\n```sh")
    parts += [f"muhdi sweep {name} {' '.join(f'--seed {seed}' for seed in seeds)}" for name in arms]
    parts.append("```\n")
    return "\n".join(parts)


def _each(run: muhdi.Results, kind: str) -> str:
    summary = run.summary(kind)
    return f"{number(summary.average)} / {number(summary.forgetting)}"


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["scenes", "camvid"])
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "results.md")
    options = parser.parse_args()
    machine = f"CPU: {platform.machine()}, one thread per run, torch {torch.__version__.partition('+')[0]}.\n"
    sections = {heading: kept(options.out, heading) for heading in (SCENES_HEADING, CAMVID_HEADING)}
    if options.only != "camvid":
        arms = muhdi.sweep(SCENES, SCENES_SEEDS, [], options.experiments, options.jobs)
        sections[SCENES_HEADING] = "\n" + machine + section(arms, "scenes", SCENES_SEEDS)
    if options.only != "scenes" and "MUHDI_CAMVID" in os.environ:
        arms = muhdi.sweep(CAMVID, CAMVID_SEEDS, [], options.experiments, options.jobs)
        camvid = section(arms, "camvid", CAMVID_SEEDS)
        sections[CAMVID_HEADING] = "\n".join(["", machine, CAMVID_NOTE, camvid, oracle_note(arms)])
    intro = (Path(__file__).parent / "results_intro.md").read_text()
    options.out.write_text(intro + "".join(f"{heading}\n{text}" for heading, text in sections.items() if text))


SCENES_HEADING = "\n## Drawn scenes: sim → city → dust → night, 128x64\n"
CAMVID_HEADING = "\n## CamVid by sequence: day → bright → dusk, 240x180\n"


def kept(page: Path, heading: str) -> str:
    """The text that the page has now under a heading."""
    text = page.read_text() if page.exists() else ""
    _, found, rest = text.partition(heading + "\n")
    return rest.partition("\n## ")[0] if found else ""


CAMVID_NOTE = """Source: sequence 0016E5 (140 training, 72 validation images); targets: 0006R0, over-exposed (70 / 28),
and 0001TP, dusk (86 / 35). Labels are at their own 480x360, the network sees 240x180; `MUHDI_CAMVID` is the folder of
the three sequences. Validation sets are this small, so differences under 1.5 points are no evidence, whatever the
spread over seeds. `camvid_source` is the source network as it is; its *target average* is over both targets.
"""


def oracle_note(arms: dict[str, list[muhdi.Results]]) -> str:
    """The oracle's score on the first target at its own step: its labels are not there any more at the last one."""
    values = [run.matrix("running")[1][run.domains.index("bright")] for run in arms["camvid_oracle"]]
    return f"The oracle on *bright* right after *bright* (`running`): {', '.join(number(v) for v in values)}.\n"


if __name__ == "__main__":
    main()
