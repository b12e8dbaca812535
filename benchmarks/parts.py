"""Every part of self-training alone, against self-training without it.

    MUHDI_CAMVID=FOLDER python -m benchmarks.parts [--only camvid_lite|scenes2] [--arms NAME ...]
    [--experiments DIR] [--jobs N] [--collect]

On CamVid, day -> bright -> dusk, with the pretrained network of `camvid_lite`, and on the drawn
scenes of `scenes2`, day -> snow -> wet night, with its small one. Scores are kept in
``benchmarks/runs/`` with a digest of each recipe, as those of `benchmarks.results`, whose page has
the tables. Nothing was tuned on these seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import muhdi
from benchmarks import results
from muhdi.report.result_table import Cell, markdown, spread
from muhdi.report.significance import difference

SEEDS = (11, 12, 13)
_SEEDS = ", ".join(map(str, SEEDS))


_ADAPTATION = "every_step.adaptation"
_AUTO = f"{_ADAPTATION}.teacher_statistics=auto"
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


@dataclass(frozen=True)
class Data:
    """Where the parts are tried.

    Attributes:
        name: of the kept runs, and what the arms' names start with.
        base: recipe that every arm changes.
        common: settings of every arm.
        statistics: with which the arms are scored, a table each.
        title: of the tables, with what ran them.
        arms: what each of those that can be tried changes.
    """

    name: str
    base: str
    common: tuple[str, ...]
    statistics: tuple[str, ...]
    title: str
    arms: dict[str, tuple[str, ...]]


CAMVID = Data(
    "parts",
    "camvid_lite",
    ("evaluation.statistics=[blend, running]", "evaluation.samples=1"),
    ("blend", "running"),
    f"""### CamVid, day -> bright -> dusk, pretrained EfficientNet-Lite0

Mean ± standard deviation of seeds {_SEEDS}.

```sh
MUHDI_CAMVID=FOLDER python -m benchmarks.parts --only camvid_lite
```
""",
    ARMS,
)
_SCENES_ARMS = ARMS | {"masked": (_AUTO, f"{_ADAPTATION}.masked={{block: 16}}")}
"""The images are half as high."""
del _SCENES_ARMS["distance"]  # a network from random weights has no features worth keeping
SCENES = Data(
    "parts_scenes2",
    "scenes2_selftrain",
    (
        "steps=[{target: {dataset: scenes, domain: snow}},"
        " {target: {dataset: scenes, domain: wet_night}}]",
        "evaluation.statistics=[image, running]",
        "evaluation.samples=1",
    ),
    ("image", "running"),
    f"""
### Drawn scenes, day -> snow -> wet night, small network

Mean ± standard deviation of seeds {_SEEDS}.

```sh
python -m benchmarks.parts --only scenes2
```
""",
    _SCENES_ARMS,
)
BOTH = {CAMVID.base: CAMVID, "scenes2": SCENES}


def recipe(data: Data, arm: str) -> muhdi.Recipe:
    """The recipe of an arm, without its seed."""
    name = f"{data.name}_{arm}"
    return muhdi.Recipe.load(data.base, [*data.common, *data.arms[arm]], name=name)


def collect(
    data: Data, arms: Sequence[str], experiments: Path, jobs: int | None, *, train: bool
) -> None:
    """Train what is missing, and bring the kept runs up to date."""
    for seed in SEEDS:
        known = results.read(data.name)
        digests = {
            arm: results.digest(data.base, seed, [*data.common, *data.arms[arm]]) for arm in arms
        }
        missing = [
            arm
            for arm in arms
            if known.get(run_name(data, arm, seed), {}).get("recipe") != digests[arm]
        ]
        if train and missing:
            # All arms of a seed share the training on the source.
            recipes = [recipe(data, arm) for arm in missing]
            muhdi.sweep(recipes, [seed], [], experiments, jobs)
        for arm in missing:
            name = run_name(data, arm, seed)
            found = results.finished_run(experiments, name)
            if found is not None:
                known[name] = {"recipe": digests[arm], "results": found}
        results.write(data.name, known)


def run_name(data: Data, arm: str, seed: int) -> str:
    """What the run of an arm is called."""
    return f"{data.name}_{arm}_seed{seed}"


def finished(data: Data) -> dict[str, list[muhdi.Results]]:
    """Results of the arms of which every seed is finished; empty without self-training itself."""
    known = results.read(data.name)
    runs: dict[str, list[muhdi.Results]] = {}
    for arm in data.arms:
        names = [run_name(data, arm, seed) for seed in SEEDS]
        if all(name in known for name in names):
            runs[arm] = [muhdi.Results.from_json(known[name]["results"]) for name in names]
    return runs if "selftrain" in runs else {}


INTRODUCTION = """
## Self-training, part by part

Each arm is self-training as it comes (`selftrain`) with one thing changed; `none` is the control
without adaptation. All arms of a seed start from the same source network. `batch` and `running`
are other statistics of the teacher; `share` weighs all pixels by the share of confident ones;
`ramp` lets the teacher follow quickly at first; `mirror` averages it over the image and its
mirror; `colours` changes colours more and blurs; `masked` is masked consistency, `rare` the
sampling of rare classes, `distance` the distance of features from those of the starting backbone.
"""


def sections() -> str:
    """The part of docs/results.md; empty as long as no arm is finished."""
    found = [section(data) for data in BOTH.values() if finished(data)]
    return "\n".join([INTRODUCTION, *found]) if found else ""


def section(data: Data) -> str:
    """The table of all arms that are finished, for each choice of statistics."""
    runs = finished(data)
    targets = runs["selftrain"][0].domains[1:]
    parts = [data.title]
    for kind in data.statistics:
        rows: list[list[Cell]] = [_row(arm, runs, kind) for arm in runs]
        head = ["arm", *targets, "both targets", "more than selftrain", "by seed"]
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
    parser.add_argument("--only", choices=list(BOTH), help="on these data alone")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    train = not options.collect
    for name, data in BOTH.items():
        if options.only in (None, name):
            arms = [arm for arm in options.arms if arm in data.arms]
            collect(data, arms, options.experiments, options.jobs, train=train)
    print(sections())


if __name__ == "__main__":
    main()
