"""Recipes in Python: changed by keyword, shown in a line, asked for their stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from muhdi.errors import RecipeError
from muhdi.recipe.load import load_recipe
from muhdi.recipe.schema import Recipe


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"image_size": [64, 32]}, ["image_size=[64,32]"]),
        ({"image_size": (64, 32)}, ["image_size=[64,32]"]),
        ({"every_step.iterations": 5}, ["every_step.iterations=5"]),
        ({"steps.1.retention": "none"}, ["steps.1.retention=none"]),
        (
            {"every_step.retention": {"method": "muhdi", "aux": 0.3}},
            ["every_step.retention={method: muhdi, aux: 0.3}"],
        ),
        ({"runtime": {"device": "cpu"}}, ["runtime={device: cpu}"]),
        ({"runtime.cache": None}, ["runtime.cache="]),
        ({"device": "cpu"}, ["device=cpu"]),
    ],
)
def test_a_change_is_a_setting_with_a_python_value(
    changes: dict[str, Any], settings: list[str]
) -> None:
    changed = Recipe.load("scenes", **changes)
    assert changed == load_recipe("scenes", settings)
    if changes != {"runtime.cache": None}:
        assert changed != Recipe.load("scenes")


def test_changes_come_after_settings_and_do_not_stay() -> None:
    changes = {"every_step.iterations": 6}
    recipe = Recipe.load("scenes", ["every_step.iterations=5"], seed=3, **changes)
    assert [step.iterations for step in recipe.steps] == [6, 6, 6]
    assert (recipe.seed, recipe.name) == (3, "scenes_seed3")
    assert Recipe.load("scenes").steps[0].iterations == 150
    assert changes == {"every_step.iterations": 6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sed": 3}, "sed: unknown key; did you mean 'seed'?"),
        ({"every_step.iteratons": 3}, "every_step.iteratons: unknown key; did you mean"),
        ({"steps.1.iterations": 0}, "steps.1.iterations: input should be greater than 0"),
        ({"steps.1.retention": "no"}, "steps.1.retention: unknown method 'no'"),
        ({"every_step.iterations": True}, "every_step.iterations: must be a number (it is true;"),
        ({"optimizer.ema": True}, "optimizer.ema: must be a number (it is true;"),
        ({"image_size": [64, False]}, "image_size.1: must be a number (it is false;"),
        ({"seed": True}, "seed: must be a number (it is true;"),
        ({"steps.9.iterations": 3}, "'9' must be a number from 0 to 2"),
        ({"runtime.device": "gpu"}, "runtime.device: string should match pattern"),
        ({"classes": ["a", "a"]}, "classes: give from 2 to 200 class names, each once"),
    ],
)
def test_a_wrong_change_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.load("scenes", **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("extends: scenes\nseed: 4\n")
    assert Recipe.load(path) == Recipe.load(str(path))
    assert Recipe.load(path).name == "mine"
    assert Recipe.load(path).seed == 4


def test_a_recipe_is_shown_in_a_line() -> None:
    recipe = Recipe.load("scenes", seed=3)
    assert repr(recipe) == "Recipe('scenes_seed3', seed=3, source -> city -> dust -> night)"
    assert str(recipe) == repr(recipe)


def test_stages_are_the_source_and_every_step() -> None:
    recipe = Recipe.load("scenes")
    stages = recipe.stages()
    assert [stage.number for stage in stages] == [0, 1, 2, 3]
    assert [stage.name for stage in stages] == ["source", "city", "dust", "night"]
    assert [stage.key for stage in stages] == ["source_training", "steps.0", "steps.1", "steps.2"]
    assert stages[0].config is recipe.source_training
    assert [stage.config for stage in stages[1:]] == recipe.steps
    assert repr(stages[1]) == "Stage(1, 'city', 150 iterations)"


def test_values_never_change() -> None:
    recipe = Recipe.load("scenes")
    with pytest.raises(ValidationError):
        recipe.seed = 3  # type: ignore[misc]


def test_the_experiment_is_what_resuming_must_not_change() -> None:
    experiment = Recipe.load("scenes").experiment()
    for change in ({"runtime.device": "cpu"}, {"description": "Other."}, {"test.mode": "best"}):
        assert Recipe.load("scenes", **change).experiment() == experiment
    for change in ({"seed": 1}, {"precision": "bf16-mixed"}, {"every_step.iterations": 5}):
        assert Recipe.load("scenes", **change).experiment() != experiment
