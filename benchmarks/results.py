"""Runs the accuracy comparisons that README and docs/results.md quote, and writes docs/results.md.

    MUHDI_CAMVID=FOLDER python -m benchmarks.results [--only scenes|scenes2|camvid|camvid_lite] [--jobs N]
    [--experiments DIR] [--collect]

The scores of every finished run are kept in ``benchmarks/runs/``, with a digest of its recipe: a
run is repeated only when its recipe has changed, and the page can be written anew without training
anything (``--collect``). Nothing was tuned on these seeds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import muhdi
from benchmarks import defaults, lite_results, online_rounds, parts, retentions, teacher_choice
from benchmarks.keeping import digest, finished_run, read, write
from muhdi.evaluation.results import Results
from muhdi.report.result_table import markdown, text
from muhdi.report.significance import against_reading
from muhdi.report.tables import arms_table

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
KINDS = ("running", "domain", "image")
"""Statistics with which the runs of the first two benchmarks are scored."""
CAMVID_SEEDS, SCENES_SEEDS = (11, 12, 13), (41, 42, 43)
SCENES2_SEEDS = (11, 12, 13, 14, 15)
METHODS = (
    "none",
    "advent",
    "advent_distill",
    "advent_muhdi",
    "selftrain",
    "selftrain_distill",
    "selftrain_muhdi",
)
CAMVID = ["camvid_source", *(f"camvid_{method}" for method in METHODS), "camvid_oracle"]
SCENES = ["scenes_none", "scenes_selftrain", "scenes_selftrain_distill", "scenes_selftrain_muhdi"]
SCENES2 = [
    "scenes2_source",
    "scenes2_none",
    "scenes2_advent",
    "scenes2_selftrain",
    "scenes2_selftrain_distill",
    "scenes2_selftrain_muhdi",
    "scenes2_oracle",
]


def section(arms: dict[str, list[muhdi.Results]], prefix: str, seeds: Sequence[int]) -> str:
    """Tables of one benchmark.

    A summary per choice of statistics, every seed, the commands, the reading.
    """
    kinds = next(iter(arms.values()))[0].statistics
    parts = []
    for kind in kinds:
        parts.append(
            f"\n**`{kind}` statistics**, after the last step, mean ± standard deviation of"
            f" {len(seeds)} seeds\n"
        )
        parts.append(arms_table(arms, kind).markdown())
    parts.append(
        "\nEvery seed: target average / forgetting, in the order "
        + ", ".join(map(str, seeds))
        + ".\n"
    )
    rows = [
        [name, *("; ".join(_each(run, kind) for run in runs) for kind in kinds)]
        for name, runs in arms.items()
    ]
    parts.append(markdown(["arm", *kinds], rows))
    controls = {
        f"{prefix}_selftrain": "sequential self-training",
        f"{prefix}_selftrain_distill": "single-head distillation",
        f"{prefix}_none": "no adaptation",
    }
    parts.append("\nReading, computed from the numbers:\n")
    method = f"{prefix}_selftrain_muhdi"
    for kind in kinds:
        for control, title in controls.items():
            said = against_reading("MuHDi", arms[method], title, arms[control], kind)
            parts.append(f"* {said}")
    parts.append("\nThe command of every row:\n\n```sh")
    parts += [f"muhdi sweep {name} {' '.join(f'--seed {seed}' for seed in seeds)}" for name in arms]
    parts.append("```\n")
    return "\n".join(parts)


def _each(run: muhdi.Results, kind: str) -> str:
    summary = run.summary(kind)
    return f"{text(summary.average)} / {text(summary.forgetting)}"


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        choices=["scenes", "scenes2", "camvid", "camvid_lite"],
        help="run this benchmark alone",
    )
    parser.add_argument(
        "--collect", action="store_true", help="train nothing, write what is finished"
    )
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    options = parser.parse_args()
    for name, recipes, seeds in (
        ("scenes", SCENES, SCENES_SEEDS),
        ("scenes2", SCENES2, SCENES2_SEEDS),
        ("camvid", CAMVID, CAMVID_SEEDS),
        ("camvid_lite", lite_results.RECIPES, CAMVID_SEEDS),
    ):
        if options.only in (None, name) and (
            name.startswith("scenes") or "MUHDI_CAMVID" in os.environ
        ):
            for seed in seeds:
                collect(
                    name,
                    recipes,
                    seed,
                    options.experiments,
                    options.jobs,
                    train=not options.collect,
                )
    PAGE.write_text(page())


def collect(
    name: str,
    recipes: Sequence[str],
    seed: int,
    experiments: Path,
    jobs: int | None,
    *,
    train: bool,
    settings: Sequence[str] = (),
) -> None:
    """Bring ``benchmarks/runs/<name>.json`` up to date for one seed."""
    known = read(name)
    missing = [
        recipe
        for recipe in recipes
        if known.get(f"{recipe}_seed{seed}", {}).get("recipe") != digest(recipe, seed, settings)
    ]
    if train and missing:
        muhdi.sweep(missing, [seed], settings, experiments, jobs)
    for recipe in missing:
        run = f"{recipe}_seed{seed}"
        found = finished_run(experiments, run)
        if found is not None:
            known[run] = {"recipe": digest(recipe, seed, settings), "results": found}
    write(name, known)


def finished(
    name: str, recipes: Sequence[str], seeds: Sequence[int]
) -> tuple[dict[str, list[muhdi.Results]], list[int]]:
    """Results by recipe, of the seeds of which every recipe is finished, and these seeds."""
    known = read(name)
    whole = [seed for seed in seeds if all(f"{recipe}_seed{seed}" in known for recipe in recipes)]
    arms = {
        r: [Results.from_json(known[f"{r}_seed{seed}"]["results"]) for seed in whole]
        for r in recipes
    }
    return arms, whole


def page() -> str:
    """The text of docs/results.md, from the kept runs."""
    text = [(HERE / "results_intro.md").read_text()]
    text += [retentions.sections(), parts.sections(), online_rounds.sections()]
    text += ["\n## Whose statistics the teacher uses\n", teacher_choice.section()]
    arms, seeds = finished("camvid_lite", lite_results.RECIPES, CAMVID_SEEDS)
    if seeds:
        text += ["\n## CamVid with a pretrained network\n", lite_results.lite_section(arms, seeds)]
    text.append(defaults.sections())
    text.append((HERE / "results_earlier.md").read_text())
    arms, seeds = finished("scenes2", SCENES2, SCENES2_SEEDS)
    if seeds:
        text += ["\n### Drawn scenes, second edition: day → snow → wet night → abroad → snow\n"]
        text += [SCENES2_NOTE, section(arms, "scenes2", seeds)]
    arms, seeds = finished("scenes", SCENES, SCENES_SEEDS)
    if seeds:
        text += ["\n### Drawn scenes: sim → city → dust → night, 128x64\n"]
        text.append(section(arms, "scenes", seeds))
    arms, seeds = finished("camvid", CAMVID, CAMVID_SEEDS)
    if seeds:
        text += ["\n### CamVid by sequence: day → bright → dusk, 240x180\n", CAMVID_NOTE]
        text += [section(arms, "camvid", seeds), oracle_note(arms)]
    return "\n".join(filter(None, text))


SCENES2_NOTE = """Its looks were drawn so that statistics alone do not close the gap to the oracle, on seeds 1 to 3; the
recipes were written then, and its five seeds were run once.
"""
CAMVID_NOTE = """Source: sequence 0016E5 (140 training, 72 validation images); targets: 0006R0, over-exposed (70 / 28),
and 0001TP, dusk (86 / 35). Labels are at their own 480x360, the network sees 240x180; `MUHDI_CAMVID` is the folder of
the three sequences. Validation sets are this small, so differences under 1.5 points are no evidence, whatever the
spread over seeds. `camvid_source` is the source network as it is; its *target average* is over both targets.
"""


def oracle_note(arms: dict[str, list[muhdi.Results]]) -> str:
    """The oracle's score on the first target at its own step.

    Its labels are not there any more at the last one.
    """
    values = [
        run.matrix("running")[1][run.domains.index("bright")] for run in arms["camvid_oracle"]
    ]
    return (
        "The oracle on *bright* right after *bright* (`running`):"
        f" {', '.join(text(v) for v in values)}.\n"
    )


if __name__ == "__main__":
    main()
