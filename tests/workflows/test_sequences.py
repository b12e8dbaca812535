"""Shipped sequences of public data sets, on miniature trees: only sizes and schedules change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from muhdi.recipe.schema import Recipe
from muhdi.workflows.train import train
from tests.official_trees import TREES, VARIANTS, Pairs, Tree, write_official
from tests.trees import write_tree
from tests.workflows.test_published import published

SIZE = "[48, 32]"
SMALL = [
    f"image_size={SIZE}",
    "augment.crop=[32, 32]",
    "every_step.iterations=1",
    "every_step.batch_size=2",
    "evaluation.samples=1",
    "runtime.workers=0",
]


@pytest.mark.parametrize("retention", ["muhdi", "style"])
def test_cityscapes_to_acdc_with_a_retention_after_the_first_step(
    retention: str, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        write_tree("cityscapes", tmp_path / "data/cityscapes", split)
        for condition in ("fog", "night", "rain", "snow"):
            labels = "ids" if split == "val" else None
            write_tree("acdc", tmp_path / "data/ACDC", split, labels=labels, condition=condition)
    settings = [
        *SMALL,
        f"source.image_size={SIZE}",
        *[f"steps.{number}.target.image_size={SIZE}" for number in range(4)],
        f"model.backbone={{name: 'hf:{published('segformer', tmp_path)}', options: {{}}}}",
        "optimizer.warmup=1",
        f"every_step.retention={retention}",
        f"runtime.root={tmp_path}",
    ]
    recipe = Recipe.load("cityscapes2acdc_segformer", settings)
    results = train(recipe, tmp_path / "runs", quiet=True)
    assert len(results.steps) == 5  # before the first, and after each


def _of_road(pairs: Pairs) -> Pairs:
    """The images of the wide camera, and their labels, as those of the other one."""
    return {
        image.replace("_e_", "_f_"): label.replace("_e_", "_f_") for image, label in pairs.items()
    }


def test_the_quick_start_on_real_images(tmp_path: Path) -> None:
    _, wide = VARIANTS["later device"]
    road = Tree(train=_of_road(wide.train), val=_of_road(wide.val), classes="comma5", colours=True)
    for tree in (TREES["comma10k"], wide, road):
        write_official("comma10k", tmp_path / "data/comma10k", replace(tree, beside=()))
    settings = [
        *SMALL,
        "model={backbone: small, init: null}",
        "source_training.iterations=1",
        "source_training.batch_size=2",
        "optimizer.warmup=0",
        f"runtime.root={tmp_path}",
    ]
    results = train(Recipe.load("comma10k", settings), tmp_path / "runs", quiet=True)
    assert len(results.steps) == 3
