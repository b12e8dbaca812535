"""What adapting while predicting gains: every online method against plain prediction.

    MUHDI_CAMVID=FOLDER python -m benchmarks.online_rounds [--only NAME] [--experiments DIR]
    [--collect]

As in the published comparison on Cityscapes -> ACDC: a network that was trained on the source meets
a stream of other domains, one image after another, for several rounds; each image is predicted,
scored, and only then learned from. `benchmarks.online_study` says what runs; here is what a user
reads of it, a part of docs/results.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from benchmarks.arms import difference_cells
from benchmarks.online_study import CONTROL, STUDIES, Run, Runs, Study, collect
from muhdi.report.result_table import Cell, markdown, spread, text
from muhdi.report.significance import Compared, Difference, corrected

INTRODUCTION = """
## Adapting while predicting

What `muhdi adapt NETWORK --online RECIPE` gains over plain prediction: the source network meets a
stream of other domains, round after round, and every image is predicted, scored, and only then
learned from. All arms of a seed start from the same network and see the same images. `none` is
plain prediction with the statistics that the network's file names; every method begins with them
but `bn`, which begins with the running ones. `none_running`, `none_blend` and `none_image` are
plain prediction with others. `tent_hard` is `tent` as published baselines on ACDC ran it, on the
network's own hard labels. Behind a method's name is its learning rate, of `bn` the momentum; the
default is among those that were tried. What has the highest mean on two seeds is chosen, and judged
on others. A difference is called noise unless it is more than 1.5 points and significant at 5 % in
a paired t test, corrected for the number of arms (Holm).
"""


def sections() -> str:
    """The part of docs/results.md; empty as long as no study is finished."""
    found = [part for part in (section(study) for study in STUDIES.values()) if part]
    return "\n".join([INTRODUCTION, *found]) if found else ""


def section(study: Study) -> str:
    """The tables of a study and what they say; empty as long as an arm is missing."""
    reported = study.reported()
    runs = study.finished(reported, study.seeds)
    if not study.chosen() or runs.keys() != reported.keys():
        return ""
    only = next(name for name, one in STUDIES.items() if one.name == study.name)
    online = study.recipe(study.seeds[0]).online
    assert online is not None
    seeds = ", ".join(map(str, study.seeds))
    choosing = " and ".join(map(str, study.chosen_on))
    compared = compared_to_control(runs)
    parts = [
        f"### {study.title}\n",
        f"```sh\npython -m benchmarks.online_rounds --only {only}\n```\n",
        f"Networks are those of the recipe `{study.base}`, of the source alone. Seeds {seeds}, mean"
        f" ± standard deviation; {online.rounds} rounds of {online.images} images of each domain,"
        " and the mean of them where no round is named:\n",
        _reported_table(study, runs, compared),
        "Reading, computed from the numbers:\n",
        *[f"* {line}" for line in readings(study, runs, compared)],
        f"\nThe choice, on seeds {choosing}; in bold what was chosen:\n",
        _choice_table(study),
    ]
    return "\n".join(parts)


def more_than(ours: Sequence[Run], others: Sequence[Run]) -> Difference:
    """Mean over the rounds, of one arm more than of another, seed by seed."""
    pairs = zip(ours, others, strict=True)
    return Difference(tuple(our.average - other.average for our, other in pairs))


def compared_to_control(runs: Runs) -> dict[str, Compared]:
    """What every other arm has more than plain prediction, corrected for their number."""
    control = runs[CONTROL]
    return corrected({arm: more_than(own, control) for arm, own in runs.items() if arm != CONTROL})


def readings(study: Study, runs: Runs, compared: Mapping[str, Compared]) -> list[str]:
    """A sentence for each method, and one for the moments against what they begin with."""
    lines = []
    for arm in study.chosen().values():
        lines.append(f"`{arm}` {_gain(compared[arm])}.")
    moments = study.chosen().get("bn")
    running = f"{CONTROL}_running" if study.statistics != "running" else CONTROL
    if moments is not None:
        alone = corrected({moments: more_than(runs[moments], runs[running])})[moments]
        lines.append(
            f"`{moments}` against plain prediction with the running statistics, with which it"
            f" begins, `{running}`: it {_gain(alone)}."
        )
    return lines


def _gain(compared: Compared) -> str:
    """What a difference says, as `muhdi.report.significance` judges it."""
    points = compared.difference.mean
    if not compared.holds:
        return f"gains nothing that can be told from noise ({points:+.1f} points)"
    return f"{'gains' if points > 0 else 'loses'} {abs(points):.1f} points"


def _reported_table(study: Study, runs: Runs, compared: Mapping[str, Compared]) -> str:
    head = ["arm", "mean", "by seed", f"more than {CONTROL}", "by seed", "first round"]
    head += ["last round", "resets", "statistics", *study.domains]
    rows = [_row(study, arm, own, compared.get(arm)) for arm, own in runs.items()]
    return markdown(head, rows)


def _row(study: Study, arm: str, runs: Sequence[Run], compared: Compared | None) -> list[Cell]:
    (used,) = {run.used for run in runs}
    row: list[Cell] = [arm, spread([run.average for run in runs]), _by_seed(runs)]
    row += difference_cells(compared)
    row += [*_first_and_last(runs), _resets(runs), used]
    return row + [spread([run.of_domain(domain) for run in runs]) for domain in study.domains]


def _choice_table(study: Study) -> str:
    arms = study.controls() | study.all_candidates()
    runs = study.finished(arms, study.chosen_on)
    chosen = study.chosen().values()
    rows: list[list[Cell]] = []
    for arm, own in runs.items():
        name = f"**{arm}**" if arm in chosen else arm
        average = mean(run.average for run in own)
        rows.append([name, average, _by_seed(own), *_first_and_last(own), _resets(own)])
    return markdown(["arm", "mean", "by seed", "first round", "last round", "resets"], rows)


def _first_and_last(runs: Sequence[Run]) -> list[Cell]:
    """Means of the domains in these rounds."""
    return [spread([run.by_round[place] for run in runs]) for place in (0, -1)]


def _by_seed(runs: Sequence[Run]) -> str:
    return ", ".join(text(run.average) for run in runs)


def _resets(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.resets) for run in runs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the part of the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(STUDIES), help="this study alone")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"))
    parser.add_argument("--collect", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    for name, study in STUDIES.items():
        if options.only in (None, name) and not options.collect:
            collect(study, options.experiments)
    print(sections())


if __name__ == "__main__":
    main()
