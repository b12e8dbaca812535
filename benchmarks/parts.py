"""Every part of self-training alone, against self-training without it.

    MUHDI_CAMVID=FOLDER python -m benchmarks.parts [--arms NAME ...] [--experiments DIR] [--jobs N]
    [--collect]

On CamVid, day -> bright -> dusk, with the pretrained network of `camvid_lite`. Scores are kept in
``benchmarks/runs/parts.json`` with a digest of each recipe, as those of `benchmarks.results`, whose
page has the tables. Nothing was tuned on these seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import muhdi
from benchmarks import results
from muhdi.report.result_table import Cell, markdown, spread
from muhdi.report.significance import difference

NAME = "parts"
BASE = "camvid_lite"
SEEDS = (11, 12, 13)
COMMON = ("evaluation.statistics=[blend, running]", "evaluation.samples=1")
"""Settings of every arm."""

_ADAPTATION = "every_step.adaptation"
_AUTO = f"{_ADAPTATION}.teacher_statistics=auto"  # the recipe's runs are older, and say batch
ARMS: dict[str, tuple[str, ...]] = {
    "none": (f"{_ADAPTATION}=none",),
    "selftrain": (_AUTO,),
    "batch": (f"{_ADAPTATION}.teacher_statistics=batch",),
    "running": (f"{_ADAPTATION}.teacher_statistics=running",),
    "share": (
        _AUTO,
        f"{_ADAPTATION}.confident=share",
        f"{_ADAPTATION}.threshold=0.968",
        f"{_ADAPTATION}.threshold_per=pixel",
    ),
    "ramp": (
        _AUTO,
        f"{_ADAPTATION}.momentum_ramp=before",
    ),
    "mirror": (
        _AUTO,
        f"{_ADAPTATION}.mirror=true",
    ),
    "colours": (
        _AUTO,
        f"{_ADAPTATION}.colour_jitter=0.2",
        f"{_ADAPTATION}.hue_jitter=0.2",
        f"{_ADAPTATION}.jitter_probability=0.8",
        f"{_ADAPTATION}.blur_probability=0.5",
    ),
    "masked": (
        _AUTO,
        f"{_ADAPTATION}.masked={{block: 32}}",
    ),
    "rare": (
        _AUTO,
        "every_step.rare_classes={}",
    ),
    "distance": (
        _AUTO,
        f"{_ADAPTATION}.feature_distance={{weight: 0.005}}",
    ),
}
"""What each arm changes; `none` is the control without adaptation."""


def recipe(arm: str) -> muhdi.Recipe:
    """The recipe of an arm, without its seed."""
    return muhdi.Recipe.load(BASE, [*COMMON, *ARMS[arm]], name=f"{NAME}_{arm}")


def collect(arms: Sequence[str], experiments: Path, jobs: int | None, *, train: bool) -> None:
    """Train what is missing, and bring the kept runs up to date."""
    for seed in SEEDS:
        known = results.read(NAME)
        digests = {arm: results.digest(BASE, seed, [*COMMON, *ARMS[arm]]) for arm in arms}
        missing = [
            arm for arm in arms if known.get(run_name(arm, seed), {}).get("recipe") != digests[arm]
        ]
        if train and missing:
            # All arms of a seed share the training on the source.
            muhdi.sweep([recipe(arm) for arm in missing], [seed], [], experiments, jobs)
        for arm in missing:
            found = results.finished_run(experiments, run_name(arm, seed))
            if found is not None:
                known[run_name(arm, seed)] = {"recipe": digests[arm], "results": found}
        results.write(NAME, known)


def run_name(arm: str, seed: int) -> str:
    """What the run of an arm is called."""
    return f"{NAME}_{arm}_seed{seed}"


def finished() -> dict[str, list[muhdi.Results]]:
    """Results of the arms of which every seed is finished; empty without self-training itself."""
    known = results.read(NAME)
    runs: dict[str, list[muhdi.Results]] = {}
    for arm in ARMS:
        names = [run_name(arm, seed) for seed in SEEDS]
        if all(name in known for name in names):
            runs[arm] = [muhdi.Results.from_json(known[name]["results"]) for name in names]
    return runs if "selftrain" in runs else {}


def section() -> str:
    """The table of all arms that are finished, for both choices of statistics."""
    runs = finished()
    parts = []
    for kind in ("blend", "running"):
        rows: list[list[Cell]] = [_row(arm, runs, kind) for arm in runs]
        head = ["arm", "bright", "dusk", "both targets", "more than selftrain", "by seed"]
        parts.append(f"With `{kind}` statistics, after the last step:\n")
        parts.append(markdown(head, rows))
    return "\n".join(parts)


def _row(arm: str, runs: dict[str, list[muhdi.Results]], kind: str) -> list[Cell]:
    own = runs[arm]
    columns = [spread([run.matrix(kind)[-1][column] for run in own]) for column in (1, 2)]
    average = spread([run.summary(kind).average for run in own])
    more = difference(own, runs["selftrain"], kind, "average")
    if arm == "selftrain" or more is None:
        return [arm, *columns, average, "", ""]
    noise = "" if more.counts else " (within the noise)"
    by_seed = ", ".join(f"{value:+.1f}" for value in more.values)
    return [arm, *columns, average, f"{more.mean:+.1f}{noise}", by_seed]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    collect(options.arms, options.experiments, options.jobs, train=not options.collect)
    print(section())


if __name__ == "__main__":
    main()
