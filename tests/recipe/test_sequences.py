"""The shipped sequences of today's networks: what every step sees, and every retention."""

from __future__ import annotations

import pytest

from muhdi.recipe import plugins
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe

ACDC = ["acdc", "acdc", "acdc", "acdc"]
WORLD = ["cityscapes", "idd", "mapillary"]
SEQUENCES = {
    "cityscapes2acdc_segformer": ("cityscapes", ACDC, "hf:nvidia/mit-b5"),
    "cityscapes2acdc_dinov2": ("cityscapes", ACDC, "hf:facebook/dinov2-base"),
    "gta2cityscapes_idd_mapillary_segformer": ("gta5", WORLD, "hf:nvidia/mit-b5"),
    "gta2cityscapes_idd_mapillary_dinov2": ("gta5", WORLD, "hf:facebook/dinov2-base"),
}
# `mtkt` keeps nothing: it learns several targets at once.
RETENTIONS = sorted(set(plugins.sections("retention")) - {"mtkt"})


@pytest.mark.parametrize("name", SEQUENCES)
def test_what_every_step_sees(name: str) -> None:
    source, targets, backbone = SEQUENCES[name]
    recipe = load_recipe(name)
    assert recipe.source.dataset == source
    assert [step.target.dataset for step in recipe.steps] == targets
    assert recipe.model.backbone.name == backbone
    assert recipe.classes == "urban19"
    assert {step.iterations for step in recipe.steps} == {40000}
    # The own car stands at a fixed place in Cityscapes alone, and is a target in one sequence.
    has_margins = [step.adaptation.margins.bottom > 0 for step in recipe.steps]
    assert has_margins == [target == "cityscapes" for target in targets]


@pytest.mark.parametrize("retention", RETENTIONS)
@pytest.mark.parametrize("name", SEQUENCES)
def test_one_setting_chooses_the_retention_of_every_step_after_the_first(
    name: str, retention: str
) -> None:
    recipe: Recipe = load_recipe(name, [f"every_step.retention={retention}"])
    assert [step.retention.key for step in recipe.steps] == [
        "none",
        *[retention] * (len(recipe.steps) - 1),
    ]


@pytest.mark.parametrize("name", SEQUENCES)
def test_several_retentions_at_once(name: str) -> None:
    recipe: Recipe = load_recipe(name, ["every_step.retention=[style, average]"])
    first, *others = (step.retention for step in recipe.steps)
    assert first.key == "none"
    assert all([part.key for part in one.parts] == ["style", "average"] for one in others)
