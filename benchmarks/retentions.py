"""Every retention, against self-training that keeps nothing.

    MUHDI_CAMVID=FOLDER python -m benchmarks.retentions [--only NAME] [--arms NAME ...]
    [--experiments DIR] [--jobs N] [--collect]

On sequences whose first target comes back: the drawn scenes of `scenes2` with their small network,
and CamVid, without and with IDD Lite (`MUHDI_IDD_LITE`), with the pretrained network of
`camvid_lite`; each with the source and, after the first stage, without it. The drawn scenes come
once more with long steps, and with layer norms in place of batch norms. See `benchmarks.arms`.
"""

from __future__ import annotations

from benchmarks import arms
from benchmarks.arms import (
    Column,
    Runs,
    Study,
    after_the_last_step,
    average,
    forgotten,
    lost_before_return,
    section,
)
from benchmarks.retention_overview import overview
from benchmarks.retention_studies import FREE, FREE_CONFIRMATION, OTHERWISE, STUDIES, WITH_SOURCE
from muhdi.report.significance import against_reading

INTRODUCTION = """
## Ways to keep what was learned

Each arm is self-training with one retention, at its default weights; `selftrain` keeps nothing,
`none` does not adapt, and `oracle` learns from the labels of each target in turn. `style_earlier`
paints the source in the styles of earlier targets alone: what `style` has more than that comes from
the style of the current target, and is adaptation, not memory. `joint` has all targets at once, in
one step with as many iterations as the sequence: it can forget nothing, and is the upper bound of
plain self-training. All arms of a seed start from the same source network, *source alone*. *Lost
before the return* is what the first target had lost of its best just before it came back. A
difference is called noise unless it is more than 1.5 points and significant at 5 % in a paired t
test, corrected for the number of arms (Holm).
"""
MULTI_HEAD = ("What multi-head adds to single-head distillation", "muhdi", "distill")
WITHOUT_ADAPTATION = (
    "What self-training with distillation gains over no adaptation",
    "distill",
    "none",
)
STATISTICS = ("What `statistics` adds to `distill`", "distill_statistics", "distill")
UNTOUCHED = (
    "What both gain over the network that the steps began with",
    "distill_statistics",
    "untouched",
)
"""Title, arm, and the arm that it is compared with."""


def sections() -> str:
    """The part of docs/results.md; empty as long as no study is finished."""
    finished = [(study, study.finished()) for study in STUDIES.values()]
    finished = [(study, runs) for study, runs in finished if runs]
    if not finished:
        return ""
    with_source = [(study, runs) for study, runs in finished if study in WITH_SOURCE]
    otherwise = [(study, runs) for study, runs in finished if study in OTHERWISE]
    free = [(study, runs) for study, runs in finished if study in FREE]
    parts = [INTRODUCTION]
    parts.append(overview("With the source", with_source))
    parts.append(overview("With the source, longer or without batch norms", otherwise))
    parts.append(overview("Steps without the source", free, costs=False))
    parts += [_table(study, runs) for study, runs in finished]
    return "\n".join(filter(None, parts))


def _table(study: Study, runs: Runs) -> str:
    """A study in full."""
    domains = runs[study.control][0].domains
    columns: list[Column] = [after_the_last_step(name) for name in domains]
    columns.append(average("targets"))
    columns.append(("forgetting", forgotten))
    columns.append(("lost before the return", lost_before_return))
    parts = [section(study, runs, columns)]
    parts.append(_one_against_another(study, runs, *MULTI_HEAD))
    parts.append(_one_against_another(study, runs, *STATISTICS))
    if study.control != "untouched":
        parts.append(_one_against_another(study, runs, *UNTOUCHED))
    if study in (*FREE, FREE_CONFIRMATION):
        parts.append(_one_against_another(study, runs, *WITHOUT_ADAPTATION))
    return "\n".join(filter(None, parts))


def _one_against_another(study: Study, runs: Runs, title: str, arm: str, other: str) -> str:
    """A sentence for each choice of statistics; empty where one of the two did not run."""
    if not {arm, other} <= runs.keys():
        return ""
    lines = [f"\n{title}:\n"]
    for kind in study.statistics:
        sentence = against_reading(arm, runs[arm], other, runs[other], kind)
        lines.append(f"* {sentence}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    arms.main(__doc__, STUDIES, sections)
