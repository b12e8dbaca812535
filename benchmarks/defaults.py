"""Where the defaults of the retentions come from: each at three strengths or so.

    python -m benchmarks.defaults [--arms NAME ...] [--experiments DIR] [--jobs N] [--collect]

On the drawn scenes of `benchmarks.retentions`, with seeds that are reported nowhere else: what is
chosen here is not judged on the same runs. See `benchmarks.arms`.
"""

from __future__ import annotations

from benchmarks import arms
from benchmarks.arms import Study, average, forgotten, lost_before_return, section

SEEDS = (1, 2)
_SEEDS = ", ".join(map(str, SEEDS))
_RETENTION = "every_step.retention"


def _tried(method: str, **options: str | float | bool) -> tuple[str, ...]:
    """The settings of a retention with these options."""
    said = [f"method: {method}", *(f"{key}: {value}" for key, value in options.items())]
    return (f"{_RETENTION}={{{', '.join(said)}}}",)


ARMS: dict[str, tuple[str, ...]] = {
    "selftrain": (f"{_RETENTION}=none",),
    "distill_1": _tried("distill", weight_source=1.0),
    "distill_3": _tried("distill", weight_source=3.0),
    "distill_no_pod": _tried("distill", weight_pod=0.0),
    "distill_pod_normalised": _tried("distill", normalised_pod="true", weight_pod=0.1),
    "distill_running": _tried("distill", old_statistics="running"),
    "muhdi_1": _tried("muhdi", weight_source=1.0),
    "muhdi_no_pod": _tried("muhdi", weight_pod=0.0),
    "muhdi_target_3": _tried("muhdi", weight_target=3.0),
    "l2sp_0.01": _tried("l2sp", weight=0.01),
    "l2sp_0.1": _tried("l2sp", weight=0.1),
    "l2sp_1": _tried("l2sp", weight=1.0),
    "ewc_10": _tried("ewc", weight=10.0),
    "ewc_100": _tried("ewc", weight=100.0),
    "ewc_1000": _tried("ewc", weight=1000.0),
    "mas_0.001": _tried("mas", weight=0.001),
    "mas_0.01": _tried("mas", weight=0.01),
    "mas_0.1": _tried("mas", weight=0.1),
    "mas_1": _tried("mas", weight=1.0),
    "mas_10": _tried("mas", weight=10.0),
    "restore_0.001": _tried("restore", probability=0.001),
    "restore_0.01": _tried("restore", probability=0.01),
    "average_0.25": _tried("average", old=0.25),
    "average_0.5": _tried("average", old=0.5),
    "blend_0.25": _tried("blend", old=0.25),
    "blend_0.5": _tried("blend", old=0.5),
    "style_colour": _tried("style", of="colour"),
    "style_colour_0.25": _tried("style", of="colour", probability=0.25),
    "style_fourier": _tried("style", of="fourier"),
    "replay_0.3": _tried("replay", weight=0.3),
    "replay_1": _tried("replay", weight=1.0),
}
"""What each arm changes; `selftrain` keeps nothing."""

STUDY = Study(
    "defaults_scenes2",
    "scenes2_selftrain",
    ("evaluation.statistics=[image, running]", "evaluation.samples=1"),
    ("image", "running"),
    f"""
## Where the defaults of the retentions come from

Drawn scenes, day -> snow -> wet night -> abroad -> snow, small network, seeds {_SEEDS}, which no
other table uses. With two seeds a difference can hardly be significant: the table shows which
strengths are too small or too large, not which method is best.

```sh
python -m benchmarks.defaults
```
""",
    ARMS,
    SEEDS,
    "selftrain",
)
STUDIES = {"scenes2": STUDY}


def sections() -> str:
    """The part of docs/results.md; empty as long as the control is not finished."""
    runs = STUDY.finished()
    if not runs:
        return ""
    columns = [
        average("targets"),
        ("forgetting", forgotten),
        ("lost before the return", lost_before_return),
    ]
    return section(STUDY, runs, columns)


if __name__ == "__main__":
    arms.main(__doc__, STUDIES, sections)
