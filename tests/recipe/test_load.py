"""Recipes: every shipped one parses; every mistake is named."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muhdi.errors import MuhdiError
from muhdi.recipe.load import load_recipe, save_recipe, shipped_recipes
from muhdi.recipe.methods import SelfTrainConfig
from muhdi.recipe.retentions import MuHDiConfig
from muhdi.recipe.yaml_text import read_yaml


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_parses_and_survives_saving(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    path = tmp_path / "again.yml"
    path.write_text(save_recipe(recipe))
    assert load_recipe(path) == recipe


def test_every_step_is_merged_under_each_step_and_settings_over_it() -> None:
    recipe = load_recipe(
        "scenes",
        [
            "every_step.adaptation.threshold=0.5",
            "steps.1.retention=none",
            "steps.2.retention={method: muhdi, aux: 0.3}",
            "every_step.retention.weight_pod=1e-2",
        ],
    )
    assert all(step.iterations == 150 for step in recipe.steps)
    assert [
        step.adaptation.threshold
        for step in recipe.steps
        if isinstance(step.adaptation, SelfTrainConfig)
    ] == [0.5] * 3
    assert [step.retention.method for step in recipe.steps] == ["muhdi", "none", "muhdi"]
    assert isinstance(recipe.steps[0].retention, MuHDiConfig)
    assert recipe.steps[0].retention.weight_pod == 0.01
    assert (recipe.steps[2].retention.aux, recipe.steps[2].retention.weight_pod) == (0.3, 0.01)


def test_what_was_read_may_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("classes: [a, b]\nsource: {dataset: scenes, domain: sim}\n")
    data = read_yaml(path)
    data["source"]["domain"] = "city"
    data["classes"].append("c")
    assert read_yaml(path) == {
        "classes": ["a", "b"],
        "source": {"dataset": "scenes", "domain": "sim"},
    }


def test_a_seed_names_the_run() -> None:
    assert load_recipe("scenes", seed=7).name == "scenes_seed7"
    assert load_recipe("scenes", ["name=mine"], seed=7).name == "mine_seed7"


def test_every_combination_of_adaptation_and_retention_is_a_recipe() -> None:
    for adaptation in ("none", "minent", "advent", "selftrain", "oracle"):
        for retention in ("none", "distill", "muhdi"):
            recipe = load_recipe(
                "scenes",
                [f"every_step.adaptation={adaptation}", f"every_step.retention={retention}"],
            )
            assert recipe.steps[1].adaptation.method == adaptation
            assert recipe.steps[1].retention.method == retention


MISTAKES = [
    ("sorce=3", "sorce: unknown key; did you mean 'source'?"),
    ("every_step.iteratons=3", "every_step.iteratons: unknown key; did you mean 'iterations'?"),
    ("steps.1.target.trian=3", "steps.1.target.trian: unknown key; did you mean 'train'?"),
    (
        "every_step.adaptation.treshold=.3",
        "every_step.adaptation.treshold: unknown key; did you mean 'threshold'?",
    ),
    (
        "every_step.adaptation.clas=a:B",
        "every_step.adaptation.clas: unknown key; did you mean 'class'?",
    ),
    (
        "model.backbone.class_=a:B",
        "model.backbone.class_: unknown key; did you mean 'class'?",
    ),
    (
        "steps.0.target.domain=cty",
        "steps.0.target.domain: unknown value 'cty'; did you mean 'city'?",
    ),
    (
        "steps.0.target.dataset=scene",
        "steps.0.target: unknown data set 'scene'; did you mean 'scenes'?",
    ),
    (
        "every_step.adaptation=advnt",
        "every_step.adaptation: unknown method 'advnt'; did you mean 'advent'?",
    ),
    (
        "model.backbone=resnet102",
        "model.backbone: unknown backbone 'resnet102'; did you mean 'resnet101'?",
    ),
    ("classes=urban8", "classes: unknown class set 'urban8'; did you mean 'urban7'?"),
    ("classes=[a]", "classes: give from 2 to 200 class names"),
    ("every_step.iterations=many", "every_step.iterations: input should be a valid integer"),
    ("image_size=[16]", "image_size.1: "),
    ("augment.crop=0", "augment.crop: input should be greater than 0"),
    (
        "source_training.iterations=0",
        "steps.0.retention: 'muhdi' keeps what an old model knows, but there is none",
    ),
    (
        "steps.1.target={dataset: scenes, domain: city, seed: 3}",
        "another domain is called 'city' too",
    ),
    ("name=../x", "name: string should match pattern"),
    ("steps.².iterations=3", "must be a number from 0 to 2"),
    ("steps.9.iterations=3", "'9' must be a number from 0 to 2"),
    ("name.x=3", "name holds a value"),
    ("name", "must read key=value"),
    ("name={", "--set name={: line 1: "),
    ("seed=2020-13-45", "--set seed=2020-13-45: not YAML that can be read"),
    ("seed={[a]: 1}", "found unhashable key"),
    ("seed=" + "[" * 3000, "nested too deeply"),
    ("seed=99999999999999999999", "seed: input should be less than"),
    ("every_step=3", "every_step: must hold keys of a step"),
    (
        "source_training.learning_rate=.inf",
        "source_training.learning_rate: input should be a finite number",
    ),
]


@pytest.mark.parametrize(("setting", "words"), MISTAKES)
def test_a_mistake_is_named(setting: str, words: str) -> None:
    settings = ["name=x", setting] if setting.startswith("name.") else [setting]
    with pytest.raises(MuhdiError) as error:
        load_recipe("scenes", settings)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "line 1"),
        ("name: a\nname: b", "line 2: the key 'name' is given twice"),
        ("- 1", "must hold keys and values"),
        ("", "must hold keys and values"),
        ("image_size: [8, 8]", "source: this key is missing"),
        ("extends: nothing", "no recipe of that name"),
        ("extends: bad.yml", "extends itself"),
        ("image_size: [8, 8]\nsource: {domain: sim}", "source: needs the key 'dataset'"),
        ("image_size: [8, 8]\nsource: {dataset: scenes, domain: sim}", "nothing to do"),
        ("? [a]\n: 1", "found unhashable key"),
        ("seed: !!int x", "bad.yml: not YAML that can be read"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(
                f"{c}: &{c} [{', '.join(['*' + p] * 10)}]\n" for p, c in zip("abcdefgh", "bcdefghi")
            ),
            "more than 20000 values",
        ),
        ("a: &a [*a]", "more than 20000 values"),
        ("#" + "x" * 1_000_001, "larger than"),
        ("!!python/object/apply:os.system [ls]", "bad.yml"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text)
    with pytest.raises(MuhdiError) as error:
        load_recipe(path)
    assert words in str(error.value)
    assert "bad.yml" in str(error.value) or "nothing" in str(error.value)


def test_a_recipe_that_does_not_exist_gets_the_nearest_name() -> None:
    with pytest.raises(MuhdiError, match="did you mean 'scenes'"):
        load_recipe("scens")
    with pytest.raises(MuhdiError, match="the recipe file does not exist"):
        load_recipe("no/where.yml")


def test_numbers_like_1e3_are_numbers() -> None:
    assert load_recipe("scenes", ["every_step.learning_rate=1e-3"]).steps[0].learning_rate == 0.001


keys = st.sampled_from(
    [
        "name",
        "classes",
        "image_size",
        "source",
        "steps",
        "every_step",
        "model",
        "seed",
        "bogus",
        "root",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(keys, values, max_size=3))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_mutation_gives_a_recipe_or_a_message(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "mutated.yml"
    path.write_text(yaml.safe_dump({"extends": "scenes"} | changes))
    with suppress(MuhdiError):  # anything else fails the test
        load_recipe(path)
