"""The studies of `benchmarks.retentions`: which arms run on which sequence, with which seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import muhdi
from benchmarks.arms import Study, titled

SCENES_SEEDS = (11, 12, 13, 14, 15)
FEWER_SEEDS = (11, 12, 13)
CONFIRMING_SEEDS = (21, 22, 23, 24, 25, 26, 27, 28)
STATISTICS_SEEDS = (31, 32, 33, 34, 35)
_ADAPTATION = "every_step.adaptation"
_RETENTION = "every_step.retention"
_FREE = "every_step.source=none"

ARMS: dict[str, tuple[str, ...]] = {
    "none": (f"{_ADAPTATION}=none", f"{_RETENTION}=none"),
    "selftrain": (f"{_RETENTION}=none",),
    "distill": (f"{_RETENTION}=distill",),
    "muhdi": (f"{_RETENTION}=muhdi",),
    "l2sp": (f"{_RETENTION}=l2sp",),
    "ewc": (f"{_RETENTION}=ewc",),
    "mas": (f"{_RETENTION}=mas",),
    "restore": (f"{_RETENTION}=restore",),
    "average": (f"{_RETENTION}=average",),
    "blend": (f"{_RETENTION}=blend",),
    "style": (f"{_RETENTION}=style",),
    "style_earlier": (f"{_RETENTION}={{method: style, current: false}}",),
    "replay": (f"{_RETENTION}=replay",),
    "style_average": (f"{_RETENTION}=[style, average]",),
    "oracle": (f"{_ADAPTATION}=oracle", f"{_RETENTION}=none"),
}
"""What each arm changes; `none` is the control without adaptation, `oracle` has the labels.

With the source there is `joint`, too, see `_with_joint`.
"""
OF_STATISTICS = {
    "untouched": (f"{_ADAPTATION}=none", f"{_RETENTION}=statistics", _FREE),
    "distill": (*ARMS["distill"], _FREE),
    "statistics": (f"{_RETENTION}=statistics", _FREE),
    "distill_statistics": (f"{_RETENTION}=[distill, statistics]", _FREE),
}
"""Those of the studies of `statistics`. Of `untouched` nothing is left of a step: its network stays
the one that it began with."""
WITHOUT_SOURCE = (
    *("none", "selftrain", "distill", "muhdi", "l2sp", "mas", "restore", "average", "blend"),
    "replay",
)
"""Those that need no source."""
FEWER = (
    *("none", "selftrain", "distill", "muhdi", "average", "style", "style_earlier", "replay"),
    *("oracle", "joint"),
)
"""Those of the studies that take long: without five that differ from `selftrain` by a point at most
where all arms ran with the source, and without the combination."""
FEWEST = ("none", "selftrain", "distill", "average", "style", "joint")
"""Those with steps of 1000 iterations."""


def _with_joint(base: str, settings: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The arms, and `joint`: all targets at once, for as long as the whole sequence takes.

    Args:
        base: recipe of the study.
        settings: what all of its arms change.
    """
    recipe = muhdi.Recipe.load(base, settings)
    targets = {domain.domain_name: domain for step in recipe.steps for domain in step.domains}
    step = {
        "targets": [one.model_dump(mode="json", exclude_defaults=True) for one in targets.values()],
        "iterations": sum(step.iterations for step in recipe.steps),
    }
    return {**ARMS, "joint": (f"{_RETENTION}=none", f"steps={json.dumps([step])}")}


def _on_camvid(base: str, apart: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """The arms, of which the oracle is told where labels lie that no other arm may see.

    Args:
        base: recipe of the study.
        apart: steps whose targets are of CamVid.
    """
    arms = _with_joint(base)
    keys = {
        "images": "train/images/*.jpg",
        "labels": "train/labels_oracle/{stem}.png",
        "val_images": "val/images/*.jpg",
        "val_labels": "val/labels/{stem}.png",
    }
    told = [f"steps.{step}.target.{key}={value}" for step in apart for key, value in keys.items()]
    return {**arms, "oracle": (*arms["oracle"], *told)}


def _only(arms: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Some of the arms."""
    return {name: arms[name] for name in names}


def _without_source(study: Study) -> Study:
    """The same study, whose steps have no source."""
    kept = {}
    for arm in WITHOUT_SOURCE:
        if arm in study.arms:
            kept[arm] = (*study.arms[arm], _FREE)
    name = f"{study.name}_free"
    title = study.title.replace("retentions --only ", "retentions --only free_")
    title = title.replace("\n", ", steps without the source\n", 1)
    return replace(study, name=name, title=title, arms=kept)


SCENES = Study(
    "retentions_scenes2",
    "scenes2_selftrain",
    ("evaluation.statistics=[image, running]", "evaluation.samples=1"),
    ("image", "running"),
    titled(
        "Drawn scenes, day -> snow -> wet night -> abroad -> snow, small network",
        SCENES_SEEDS,
        "python -m benchmarks.retentions --only scenes2",
    ),
    _with_joint("scenes2_selftrain"),
    SCENES_SEEDS,
    "selftrain",
    short="scenes",
)
CONFIRMATION = replace(
    SCENES,
    name="retentions_scenes2_style",
    title=titled(
        "Drawn scenes again: `style` on seeds of its own",
        CONFIRMING_SEEDS,
        "python -m benchmarks.retentions --only scenes2_style",
    )
    + """
Among many arms the best one looks better than it is. So `style`, which stood out on seeds 11 to 14,
was run once more with these seeds and nothing else to correct for but the arms of this table.
""",
    arms={arm: SCENES.arms[arm] for arm in ("selftrain", "style", "style_earlier", "joint")},
    seeds=CONFIRMING_SEEDS,
)
CAMVID = Study(
    "retentions_camvid",
    "camvid_return",
    ("evaluation.statistics=[blend, running]", "evaluation.samples=1"),
    ("blend", "running"),
    titled(
        "CamVid, day -> bright -> dusk -> bright, pretrained EfficientNet-Lite0",
        FEWER_SEEDS,
        "MUHDI_CAMVID=FOLDER python -m benchmarks.retentions --only camvid",
    ),
    _on_camvid("camvid_return", apart=(0, 1, 2)),
    FEWER_SEEDS,
    "selftrain",
    short="CamVid",
)
INDIA = replace(
    CAMVID,
    name="retentions_india",
    base="camvid_india",
    short="India",
    arms=_only(_on_camvid("camvid_india", apart=(0, 2)), FEWER),
    title=titled(
        "CamVid and IDD Lite, day -> dusk -> India -> dusk, pretrained EfficientNet-Lite0",
        FEWER_SEEDS,
        "MUHDI_CAMVID=FOLDER MUHDI_IDD_LITE=FOLDER python -m benchmarks.retentions --only india",
    ),
)
_LONG = "every_step.iterations=1000"
LONG = replace(
    SCENES,
    name="retentions_scenes2_long",
    common=(*SCENES.common, _LONG),
    title=titled(
        "Drawn scenes, steps of 1000 iterations in place of 150",
        FEWER_SEEDS,
        "python -m benchmarks.retentions --only scenes2_long",
    ),
    arms=_only(_with_joint("scenes2_selftrain", [_LONG]), FEWEST),
    seeds=FEWER_SEEDS,
    short="1000 iterations",
)
LAYER_NORM = replace(
    SCENES,
    name="retentions_scenes2_layer_norm",
    common=(
        "model.backbone={class: 'benchmarks.layer_norm:SmallLayerNorm'}",
        "evaluation={statistics: [running], default: running, samples: 1}",
    ),
    statistics=("none",),
    title=titled(
        "Drawn scenes, the small network with layer norms in place of batch norms",
        FEWER_SEEDS,
        "python -m benchmarks.retentions --only scenes2_layer_norm",
    )
    + """
Every pixel's features are normalised over the channels, as in transformers: there are no statistics
that could be forgotten, and none to choose (`none`).
""",
    arms=_only(_with_joint("scenes2_selftrain"), FEWER),
    seeds=FEWER_SEEDS,
    short="layer norms",
)
FREE_SCENES = _without_source(SCENES)
FREE_CONFIRMATION = replace(
    FREE_SCENES,
    name="retentions_scenes2_free_distill",
    title=titled(
        "Drawn scenes without the source again: `distill` on seeds of its own",
        CONFIRMING_SEEDS,
        "python -m benchmarks.retentions --only free_scenes2_distill",
    )
    + """
`distill` stood out on seeds 11 to 15; here there is nothing else to correct for but `none`.
""",
    arms=_only(FREE_SCENES.arms, ("none", "selftrain", "distill")),
    seeds=CONFIRMING_SEEDS,
)
_ABOUT_UNTOUCHED = """
`untouched` is the network that the steps began with: nothing is learned, and its running statistics
come back.
"""
_ABOUT_STATISTICS = (
    _ABOUT_UNTOUCHED
    + """`statistics` is self-training after which they come back, `distill_statistics` has
`distill` besides.
"""
)
FREE_SCENES_STATISTICS = replace(
    FREE_SCENES,
    name="retentions_scenes2_free_statistics",
    common=("evaluation.statistics=[image, blend, running]", "evaluation.samples=1"),
    statistics=("image", "blend", "running"),
    title=titled(
        "Drawn scenes without the source: `statistics`",
        STATISTICS_SEEDS,
        "python -m benchmarks.retentions --only free_scenes2_statistics",
    )
    + _ABOUT_STATISTICS,
    arms=OF_STATISTICS,
    seeds=STATISTICS_SEEDS,
    control="untouched",
)
FREE_CAMVID_STATISTICS = replace(
    CAMVID,
    name="retentions_camvid_free_statistics",
    title=titled(
        "CamVid without the source: `statistics`, pretrained EfficientNet-Lite0",
        STATISTICS_SEEDS[:3],
        "MUHDI_CAMVID=FOLDER python -m benchmarks.retentions --only free_camvid_statistics",
    )
    + _ABOUT_STATISTICS,
    arms=OF_STATISTICS,
    seeds=STATISTICS_SEEDS[:3],
    control="untouched",
)
_FREE_INDIA = _without_source(INDIA)
FREE_INDIA = replace(
    _FREE_INDIA,
    title=_FREE_INDIA.title
    + _ABOUT_UNTOUCHED
    + "In `distill_statistics` they come back after `distill`.\n",
    arms=_only(
        {**OF_STATISTICS, **_FREE_INDIA.arms},
        ("untouched", "none", "selftrain", "distill", "replay", "distill_statistics"),
    ),
)
STUDIES = {
    "scenes2": SCENES,
    "scenes2_style": CONFIRMATION,
    "camvid": CAMVID,
    "india": INDIA,
    "scenes2_long": LONG,
    "scenes2_layer_norm": LAYER_NORM,
    "free_scenes2": FREE_SCENES,
    "free_scenes2_distill": FREE_CONFIRMATION,
    "free_camvid": _without_source(replace(CAMVID, arms=_only(CAMVID.arms, FEWER))),
    "free_india": FREE_INDIA,
    "free_scenes2_statistics": FREE_SCENES_STATISTICS,
    "free_camvid_statistics": FREE_CAMVID_STATISTICS,
}
WITH_SOURCE = (SCENES, CAMVID, INDIA)
"""Sequences as they come, with the source."""
OTHERWISE = (LONG, LAYER_NORM)
"""Drawn scenes, trained otherwise."""
FREE = (STUDIES["free_scenes2"], STUDIES["free_camvid"], FREE_INDIA)
