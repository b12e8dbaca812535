"""Orders of a recipe's targets, and what a run's name tells of them."""

from __future__ import annotations

import re

import pytest

from muhdi import Recipe, RecipeError
from muhdi.files import LONGEST
from muhdi.recipe.orders import base_arm, in_order, orders_of, own_order, split_seed

BACK = "scenes2_selftrain"
"""Snow, wet night, abroad, and snow again."""


def test_a_step_takes_along_what_belongs_to_its_target() -> None:
    settings = ["steps.0.target.train=7", "steps.0.labelled=list.txt"]
    recipe = Recipe.load("scenes", settings, seed=1)
    assert own_order(recipe) == ("city", "dust", "night")
    other = in_order(recipe, ["dust", "night", "city"])
    assert own_order(other) == ("dust", "night", "city")
    assert other.name == "scenes_order_dust-night-city_seed1"
    assert (other.steps[2].target, other.steps[2].labelled) == (recipe.steps[0].target, "list.txt")
    assert other.steps[0] == recipe.steps[1]
    assert (split_seed(other), base_arm(other)) == (
        ("scenes_order_dust-night-city", "_seed1"),
        "scenes",
    )


def test_the_source_does_not_depend_on_the_order() -> None:
    recipe = Recipe.load("scenes")
    other = in_order(recipe, ["night", "dust", "city"])
    assert other.source == recipe.source
    assert other.source_training == recipe.source_training


def test_which_orders_there_are() -> None:
    recipe = Recipe.load("scenes")
    everything = orders_of(recipe, "all")
    assert everything[0] == own_order(recipe)
    assert len(set(everything)) == 6
    assert orders_of(recipe, "reverse") == [own_order(recipe), ("night", "dust", "city")]
    assert orders_of(recipe, [["night", "city", "dust"]]) == [("night", "city", "dust")]
    # 4! / 2!, since snow comes twice.
    assert len(set(orders_of(Recipe.load(BACK), "all"))) == 12


def test_more_drawn_orders_begin_with_fewer() -> None:
    recipe = Recipe.load(BACK)
    drawn = orders_of(recipe, 7)
    assert drawn[0] == own_order(recipe)
    assert len(set(drawn)) == 7
    assert orders_of(recipe, 4) == drawn[:4]
    assert set(orders_of(recipe, 12)) == set(orders_of(recipe, "all"))


MISTAKES = {
    "one target": ("scenes", ["steps=[]"], "all", "has 0 target to order"),
    "a step of its own length": (
        "scenes",
        ["steps.1.iterations=5"],
        "all",
        "scenes: steps.1.iterations is not that of steps.0",
    ),
    "labels that may stay": ("scenes", ["steps.2.labelled=4"], "reverse", "steps.2.labelled is"),
    "a word": ("scenes", [], "revers", "--orders revers: must be all, reverse, a number"),
    "too few": ("scenes", [], 1, "--orders 1: must be from 2 to 6"),
    "too many": ("scenes", [], 7, "--orders 7: must be from 2 to 6"),
    "a comma": (
        "scenes",
        ["steps.0.target.name='a,b'"],
        "all",
        "--orders: the target 'a,b' has a comma in its name",
    ),
    "none": ("scenes", [], [], "--orders: give at least one, or leave it out"),
    "one twice": (
        "scenes",
        [],
        [("night", "dust", "city")] * 2,
        "--orders night,dust,city: is given twice",
    ),
    "far too many": (
        "scenes",
        ["steps=[" + ",".join(f"{{target: {{dataset: scenes, domain: fog, name: d{n}}},"
                              " iterations: 1}" for n in range(6)) + "]"],
        "all",
        "--orders all: scenes has 720 orders; give a number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_orders_that_make_no_sense_are_refused(mistake: str) -> None:
    recipe, settings, which, message = MISTAKES[mistake]
    with pytest.raises(RecipeError, match=re.escape(message)):
        orders_of(Recipe.load(recipe, settings), which)


def test_an_order_names_every_target() -> None:
    message = "--order city,night: must name the targets of scenes, each as often as it comes: city"
    with pytest.raises(RecipeError, match=message):
        in_order(Recipe.load("scenes"), ["city", "night"])


def test_the_name_of_a_long_order_ends_with_a_digest() -> None:
    names = [f"{'x' * 60}{n}" for n in range(3)]
    settings = [f"steps.{n}.target.name={name}" for n, name in enumerate(names)]
    recipe = Recipe.load("scenes", settings)
    one, other = (in_order(recipe, order).name for order in (names, names[::-1]))
    assert len(one) == len(other) == len("scenes_order_") + LONGEST
    assert one != other
