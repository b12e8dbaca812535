"""Every part of self-training alone, against self-training without it.

    MUHDI_CAMVID=FOLDER python -m benchmarks.parts [--only NAME] [--arms NAME ...]
    [--experiments DIR] [--jobs N] [--collect]

On CamVid, day -> bright -> dusk, with the pretrained network of `camvid_lite`, and on the drawn
scenes of `scenes2`, day -> snow -> wet night, with its small one. See `benchmarks.arms`.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import arms
from benchmarks.arms import Study, after_the_last_step, average, section, titled

SEEDS = (11, 12, 13)
_ADAPTATION = "every_step.adaptation"
ARMS: dict[str, tuple[str, ...]] = {
    "none": (f"{_ADAPTATION}=none",),
    "selftrain": (),
    "batch": (f"{_ADAPTATION}.teacher_statistics=batch",),
    "running": (f"{_ADAPTATION}.teacher_statistics=running",),
    "share": (
        f"{_ADAPTATION}.confident=share",
        f"{_ADAPTATION}.threshold=0.968",
        f"{_ADAPTATION}.threshold_per=pixel",
    ),
    "ramp": (f"{_ADAPTATION}.momentum_ramp=before",),
    "mirror": (f"{_ADAPTATION}.mirror=true",),
    "colours": (
        f"{_ADAPTATION}.colour_jitter=0.2",
        f"{_ADAPTATION}.hue_jitter=0.2",
        f"{_ADAPTATION}.jitter_probability=0.8",
        f"{_ADAPTATION}.blur_probability=0.5",
    ),
    "masked": (f"{_ADAPTATION}.masked={{block: 32}}",),
    "rare": ("every_step.rare_classes={}",),
    "distance": (f"{_ADAPTATION}.feature_distance={{weight: 0.005}}",),
}
"""What each arm changes; `none` is the control without adaptation."""
DETAILS: dict[str, tuple[str, ...]] = {
    "selftrain": (),
    "per_pixel": (f"{_ADAPTATION}.threshold_per=pixel",),
    "mean_over_all": ("every_step.mean_over=all",),
    "paste_ignored": (f"{_ADAPTATION}.paste_ignored=true",),
    "classes_per_batch": (f"{_ADAPTATION}.mixed_classes=batch",),
    "weak_colours": (f"{_ADAPTATION}.weak_colours={{}}",),
    "margins": (f"{_ADAPTATION}.margins={{top: 0.03, bottom: 0.23}}",),
}
"""Smaller choices; a study of their own, whose runs were made on one machine."""

CAMVID = Study(
    "parts",
    "camvid_lite",
    ("evaluation.statistics=[blend, running]", "evaluation.samples=1"),
    ("blend", "running"),
    titled(
        "CamVid, day -> bright -> dusk, pretrained EfficientNet-Lite0",
        SEEDS,
        "MUHDI_CAMVID=FOLDER python -m benchmarks.parts --only camvid_lite",
    ),
    ARMS,
    SEEDS,
    "selftrain",
)
_SCENES_ARMS = {
    **ARMS,
    # The images are half as high.
    "masked": (f"{_ADAPTATION}.masked={{block: 16}}",),
}
del _SCENES_ARMS["distance"]  # a network from random weights has no features worth keeping
SCENES = Study(
    "parts_scenes2",
    "scenes2_selftrain",
    (
        "steps=[{target: {dataset: scenes, domain: snow}},"
        " {target: {dataset: scenes, domain: wet_night}}]",
        "evaluation.statistics=[image, running]",
        "evaluation.samples=1",
    ),
    ("image", "running"),
    titled(
        "Drawn scenes, day -> snow -> wet night, small network",
        SEEDS,
        "python -m benchmarks.parts --only scenes2",
    ),
    _SCENES_ARMS,
    SEEDS,
    "selftrain",
)
# Its thresholds are of pixels as it comes.
_SCENES_DETAILS = {**DETAILS, "per_class": (f"{_ADAPTATION}.threshold_per=class",)}
del _SCENES_DETAILS["per_pixel"]
STUDIES = {
    "camvid_lite": CAMVID,
    "camvid_lite_details": replace(
        CAMVID,
        name="parts_details",
        arms=DETAILS,
        title=titled(
            "CamVid, smaller choices",
            SEEDS,
            "MUHDI_CAMVID=FOLDER python -m benchmarks.parts --only camvid_lite_details",
        ),
    ),
    "scenes2": SCENES,
    "scenes2_details": replace(
        SCENES,
        name="parts_scenes2_details",
        arms=_SCENES_DETAILS,
        title=titled(
            "Drawn scenes, smaller choices",
            SEEDS,
            "python -m benchmarks.parts --only scenes2_details",
        ),
    ),
}

INTRODUCTION = """
## Self-training, part by part

Each arm is self-training as it comes (`selftrain`) with one thing changed; `none` is the control
without adaptation. All arms of a seed start from the same source network, *source alone*. `batch`
and `running` are other statistics of the teacher; `share` weighs all pixels by the share of
confident ones; `ramp` lets the teacher follow quickly at first; `mirror` averages it over the image
and its mirror; `colours` changes colours more and blurs; `masked` is masked consistency, `rare` the
sampling of rare classes, `distance` the distance of features from those of the starting backbone.
The *smaller choices* were run on another machine than the arms above them, with a `selftrain` of
their own. `per_pixel` and `per_class` are thresholds for all pixels alike or for each class,
`mean_over_all` divides a loss by all pixels instead of the labelled ones, `paste_ignored` pastes
ignored pixels, too, `classes_per_batch` draws the pasted classes for a batch instead of an image,
`weak_colours` changes the colours of every image a little, `margins` learns nothing from the rows
at the top and bottom. Nothing in the drawn scenes is ignored, so that `mean_over_all` and
`paste_ignored` change nothing there.
A difference is called noise unless it is more than 1.5 points and significant at 5 % in a paired
t test, corrected for the number of arms (Holm).
"""


def sections() -> str:
    """The part of docs/results.md; empty as long as no arm is finished."""
    found = []
    for study in STUDIES.values():
        runs = study.finished()
        if runs:
            targets = runs[study.control][0].domains[1:]
            columns = [after_the_last_step(name) for name in targets]
            found.append(section(study, runs, [*columns, average("both targets")]) + "\n")
    return "\n".join([INTRODUCTION, *found]) if found else ""


if __name__ == "__main__":
    arms.main(__doc__, STUDIES, sections)
