"""Recipes of version 0.1: files and settings keep their meaning, and clashes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from muhdi.errors import RecipeError
from muhdi.recipe.load import load_recipe, save_recipe
from muhdi.recipe.read import set_value, spread_steps
from muhdi.recipe.upgrade import MOVED, upgrade, upgrade_key

OLD = Path(__file__).parents[1] / "data_v01" / "run" / "recipe.yml"
"""A recipe as version 0.1 saved it in a run directory, with every default written out."""


def value_at(data: Any, key: str) -> Any:
    """The value at a dotted key of nested mappings."""
    for part in key.split("."):
        data = data[part]
    return data


def assert_kept(old: Any, new: Any, key: str = "") -> None:
    """Every value of an old recipe is in the new one, which may hold more keys."""
    if isinstance(old, dict):
        for name, value in old.items():
            here = f"{key}.{name}".lstrip(".")
            if here in MOVED or here == "loader":
                continue
            assert name in new, here
            assert_kept(value, new[name], here)
    elif isinstance(old, list):
        assert len(old) == len(new), key
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_kept(one, other, f"{key}.{number}".lstrip("."))
    elif key == "model.backbone":
        assert new["name"] == old, key
    else:
        assert old == new, key


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "old.yml"
    path.write_text(f"extends: scenes\n{text}\n")
    return path


def test_the_recipe_is_of_version_0_1() -> None:
    data = yaml.safe_load(OLD.read_text())
    assert "runtime" not in data
    assert set(data["loader"]) == {"workers", "memory_mb"}


def test_a_saved_recipe_keeps_every_value() -> None:
    old = yaml.safe_load(OLD.read_text())
    new = load_recipe(OLD, trust_code=False).model_dump(mode="json")
    assert_kept(old, new)
    moved = [key for key in MOVED if key.partition(".")[0] in old and key != "augment.color"]
    assert len(moved) >= 13
    for key in moved:
        assert value_at(old, key) == value_at(new, MOVED[key]), key


def test_an_upgraded_recipe_is_saved_with_todays_keys(tmp_path: Path) -> None:
    recipe = load_recipe(OLD)
    saved = tmp_path / "recipe.yml"
    saved.write_text(save_recipe(recipe))
    assert load_recipe(saved) == recipe
    assert not {key.partition(".")[0] for key in MOVED if key != "augment.color"} & set(
        yaml.safe_load(saved.read_text())
    )


VALUES = {
    "device": "cpu",
    "devices": 2,
    "nodes": 2,
    "strategy": "ddp",
    "cache": "elsewhere",
    "root": "elsewhere",
    "snapshots": "elsewhere",
    "logs": "elsewhere",
    "log_every": 7,
    "save_every": 7,
    "keep": 7,
    "skip_bad": 7,
    "loader.workers": 7,
    "loader.memory_mb": 7,
    "augment.color": 0.7,
}
"""A value other than the default for each old key."""


def test_every_moved_key_is_tested() -> None:
    assert set(VALUES) == set(MOVED)


@pytest.mark.parametrize("key", VALUES)
def test_an_old_key_means_the_same_in_a_file_and_as_a_setting(key: str, tmp_path: Path) -> None:
    section, _, name = key.rpartition(".")
    value = VALUES[key]
    text = f"{section}: {{{name}: {value}}}" if section else f"{name}: {value}"
    by_file = load_recipe(write(tmp_path, text)).model_dump(mode="json")
    by_setting = load_recipe("scenes", [f"{key}={value}"]).model_dump(mode="json")
    default = load_recipe("scenes").model_dump(mode="json")
    for data in (by_file, by_setting):
        assert value_at(data, MOVED[key]) == value
        assert value_at(default, MOVED[key]) != value


def test_a_setting_replaces_what_a_file_holds_under_either_name(tmp_path: Path) -> None:
    old = write(tmp_path, "device: cuda\nloader: {workers: 1}")
    for settings in (
        ["device=cpu", "loader.workers=3"],
        ["runtime.device=cpu", "runtime.workers=3"],
    ):
        runtime = load_recipe(old, settings).runtime
        assert (runtime.device, runtime.workers) == ("cpu", 3)


def test_a_file_with_old_keys_replaces_what_it_extends(tmp_path: Path) -> None:
    """`scenes` sets save_every under today's key; the file below it uses the old one."""
    assert load_recipe("scenes").runtime.save_every != 7
    (tmp_path / "base.yml").write_text("extends: scenes\ndevice: cuda\nlog_every: 3\n")
    path = tmp_path / "top.yml"
    path.write_text("extends: base.yml\nsave_every: 7\nruntime: {device: cpu}\n")
    runtime = load_recipe(path).runtime
    assert (runtime.device, runtime.log_every, runtime.save_every) == ("cpu", 3, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device: gpu", "runtime.device: string should match pattern"),
        ("device: cpu\nruntime: 3", "runtime: must hold keys and values"),
        ("loader: {workers: 1, wrkers: 2}", "loader: unknown key"),
        ("loader: 3", "loader: unknown key"),
        ("save_every: 0", "runtime.save_every: input should be greater than 0"),
    ],
)
def test_a_mistake_in_an_old_recipe_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_american_spelling_is_read_and_british_is_saved(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "augment: {color: 0.2}\nevery_step: {adaptation: {method: selftrain, color_jitter: 0.1}}",
    )
    recipe = load_recipe(path)
    assert recipe.augment.colour == 0.2
    assert [step.adaptation.colour_jitter for step in recipe.steps] == [0.1] * 3
    assert "color" not in save_recipe(recipe)
    recipe = load_recipe(path, ["augment.color=0.3", "steps.0.adaptation.color_jitter=0.4"])
    assert recipe.augment.colour == 0.3
    assert [step.adaptation.colour_jitter for step in recipe.steps] == [0.4, 0.1, 0.1]


def test_todays_data_stays_as_it_is_and_nothing_is_changed_in_place() -> None:
    today = {"name": "x", "runtime": {"device": "cpu"}, "augment": {"colour": 0.1}, "steps": [{}]}
    assert upgrade(today, "x.yml") == today
    old = {"device": "cpu", "runtime": {"keep": 3}, "loader": {"workers": 1}}
    assert upgrade(old, "x.yml") == {"runtime": {"device": "cpu", "keep": 3, "workers": 1}}
    assert old == {"device": "cpu", "runtime": {"keep": 3}, "loader": {"workers": 1}}
    assert upgrade_key("every_step.iterations") == "every_step.iterations"


def test_a_section_that_a_setting_replaces_may_hold_old_keys() -> None:
    settings = ["loader={workers: 2}", "augment={color: 0.2}"]
    recipe = load_recipe(
        "scenes",
        [*settings, "every_step.adaptation={method: selftrain, color_jitter: 0.1}"],
    )
    assert recipe.runtime.workers == 2
    assert recipe.augment.colour == 0.2
    assert recipe.steps[0].adaptation.colour_jitter == 0.1


def test_a_method_has_one_spelling_of_colour_at_a_time(tmp_path: Path) -> None:
    text = "every_step: {adaptation: {method: selftrain, color_jitter: 0.1, colour_jitter: 0.2}}"
    with pytest.raises(RecipeError, match="color_jitter: is called colour_jitter now; give it"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("kind", ["adaptation", "retention"])
def test_a_foreign_section_that_is_not_trusted_is_saved_as_it_was_read(
    kind: str, tmp_path: Path
) -> None:
    """Its options are its own business, and no key is added that its class would refuse."""
    section = {"class": "pkg:Name", "color_jitter": 0.1, "option": None}
    path = write(tmp_path, yaml.safe_dump({"every_step": {kind: section}}))
    recipe = load_recipe(path, trust_code=False)
    assert recipe.model_dump()["steps"][0][kind] == section
    assert recipe.model_dump(mode="json")["steps"][0][kind] == section


FOREIGN = {"method": "somebodys", "color_jitter": 0.1}


def test_a_foreign_method_that_is_named_by_a_word_spells_as_it_likes() -> None:
    data = {"every_step": {"adaptation": FOREIGN}, "steps": [{"adaptation": FOREIGN}]}
    assert upgrade(data, "x.yml") == data
    whole = spread_steps(data | {"steps": [{}, {"adaptation": {"color_jitter": 0.2}}]})
    assert [step["adaptation"]["color_jitter"] for step in whole["steps"]] == [0.1, 0.2]
    set_value(data, "every_step.adaptation.color_jitter", 0.3, "")
    set_value(data, "steps.0.adaptation.color_jitter", 0.4, "")
    (step,) = spread_steps(upgrade(data, "--set"))["steps"]
    assert step["adaptation"] == {"method": "somebodys", "color_jitter": 0.4}


@pytest.mark.parametrize(
    ("base", "top", "setting", "value"),
    [
        ("color_jitter: 0.1", "seed: 1", None, 0.1),
        ("color_jitter: 0.1", "color_jitter: 0.2", None, 0.2),
        ("colour_jitter: 0.1", "color_jitter: 0.2", None, 0.2),
        ("color_jitter: 0.1", "colour_jitter: 0.2", None, 0.2),
        ("colour_jitter: 0.1", "colour_jitter: 0.2", "color_jitter=0.3", 0.3),
        ("color_jitter: 0.1", "color_jitter: 0.2", "colour_jitter=0.3", 0.3),
    ],
)
def test_either_spelling_replaces_the_other_whatever_says_the_method(
    tmp_path: Path, base: str, top: str, setting: str | None, value: float
) -> None:
    """The method is named in the file at the bottom alone, or by ``every_step`` for a step."""
    section = "every_step: {adaptation: {method: selftrain, %s}}"
    (tmp_path / "base.yml").write_text(f"extends: scenes\n{section % base}\n")
    path = tmp_path / "top.yml"
    held = top if top.startswith("seed") else f"every_step: {{adaptation: {{{top}}}}}"
    path.write_text(f"extends: base.yml\n{held}\n")
    for place in ("every_step", "steps.0"):
        settings = [] if setting is None else [f"{place}.adaptation.{setting}"]
        assert load_recipe(path, settings).steps[0].adaptation.colour_jitter == value
