"""The order in which the targets of a recipe come, and the names of runs that tell it."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from muhdi.errors import RecipeError, check_type
from muhdi.files import file_name, short_name
from muhdi.recipe.explain import explain
from muhdi.recipe.schema import Recipe
from muhdi.recipe.stages import StepConfig

Order = tuple[str, ...]
"""Names of the targets, in the order in which they come; together they are ``city+night``."""
Orders = str | int | Sequence[Sequence[str]]
"""``all``, ``reverse`` (the recipe's own order and its reverse), a number (its own and so many
others less one, drawn at random), or the orders themselves.
"""

MOST_ORDERS = 120
"""``all`` orders of five targets; with more of them a number must be given."""
_DRAW_SEED = 0
"""Orders are drawn with a seed of their own, so that all recipes and seeds have the same ones."""


def own_order(recipe: Recipe) -> Order:
    """The order of a recipe's targets as it stands there."""
    return tuple(step.name for step in recipe.steps)


def in_order(recipe: Recipe, order: Sequence[str]) -> Recipe:
    """The recipe with its targets in another order, which its name then tells.

    A step's target takes its list of labelled images along; all else is the same in every step.
    ``camvid_seed1`` becomes ``camvid_order_dusk-bright_seed1``.

    Args:
        recipe: with two steps or more, which differ in their targets alone.
        order: names of all targets; one that comes back is named as often as it comes.

    Raises:
        RecipeError: the order names other targets, or is meaningless, since the steps differ.
    """
    own = own_order(recipe)
    if sorted(order) != sorted(own):
        raise RecipeError(
            f"--order {','.join(order)}: must name the targets of {recipe.name}, each as often as"
            f" it comes: {','.join(own)}"
        )
    _check_alike(recipe)
    left = dict(enumerate(recipe.steps))
    steps = []
    for name in order:
        number = next(n for n, step in left.items() if step.name == name)
        steps.append(left.pop(number))
    arm, seed = split_seed(recipe)
    data = {**dict(recipe), "steps": steps, "name": f"{arm}{_suffix(order)}{seed}"}
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{recipe.name}: {explain(error, data, Recipe)}") from None


def orders_of(recipe: Recipe, which: Orders) -> list[Order]:
    """Several orders of a recipe's targets, its own first unless they are given.

    A larger number of drawn orders begins with those of a smaller one.

    Raises:
        RecipeError: there are no such orders, too few or too many.
    """
    check_type("orders", which, str, int, Sequence)
    own = own_order(recipe)
    if len(set(own)) < 2:
        raise RecipeError(
            f"--orders: {recipe.name} has {len(set(own))} target to order; leave it out"
        )
    _check_alike(recipe)
    for name in own:
        if "," in name:
            raise RecipeError(
                f"--orders: the target {name!r} has a comma in its name, which stands between"
                " targets; give it another name"
            )
    count = _count(own)
    if which == "all":
        if count > MOST_ORDERS:
            raise RecipeError(
                f"--orders all: {recipe.name} has {count} orders; give a number, such as 10"
            )
        return list(dict.fromkeys(itertools.permutations(own)))
    if which == "reverse":
        if own == own[::-1]:
            raise RecipeError(f"--orders reverse: {recipe.name} is its own reverse")
        return [own, own[::-1]]
    if isinstance(which, str):
        raise RecipeError(
            f"--orders {which}: must be all, reverse, a number, or names of targets with commas"
            " between them"
        )
    if isinstance(which, int):
        return _drawn(own, which, count)
    return _given([tuple(order) for order in which])


def _given(orders: list[Order]) -> list[Order]:
    """The orders that were asked for by their names."""
    if not orders:
        raise RecipeError("--orders: give at least one, or leave it out")
    twice = [order for order, times in Counter(orders).items() if times > 1]
    if twice:
        raise RecipeError(f"--orders {','.join(twice[0])}: is given twice")
    return orders


def _drawn(own: Order, wanted: int, count: int) -> list[Order]:
    """So many different orders, the own one first.

    Args:
        own: the recipe's order.
        wanted: how many.
        count: how many there are.
    """
    if not 1 < wanted <= count:
        raise RecipeError(f"--orders {wanted}: must be from 2 to {count}, which is all of them")
    generator = random.Random(_DRAW_SEED)
    found = {own: None}
    while len(found) < wanted:
        names = sorted(own)
        generator.shuffle(names)
        found[tuple(names)] = None
    return list(found)


def _count(own: Order) -> int:
    """The number of different orders; a target that comes back is the same one."""
    count = math.factorial(len(own))
    for times in Counter(own).values():
        count //= math.factorial(times)
    return count


def _check_alike(recipe: Recipe) -> None:
    """Refuse steps that differ in more than their targets.

    What a step alone has may belong to its target or to its place in the sequence: in another order
    nobody could tell what made the difference.
    """
    first = _apart_from_target(recipe.steps[0])
    for number, step in enumerate(recipe.steps):
        other = _apart_from_target(step)
        for key in other:
            if other[key] != first[key]:
                raise RecipeError(
                    f"{recipe.name}: steps.{number}.{key} is not that of steps.0, so that another"
                    " order would mean another training, too; set it in every_step"
                )


def _apart_from_target(step: StepConfig) -> dict[str, Any]:
    data = step.model_dump(mode="json", exclude={"target", "targets"})
    # A list names images of the target, and goes where that goes; a number might stay.
    if isinstance(step.labelled, str):
        data["labelled"] = None
    return data


# --- names ----------------------------------------------------------------------------------------


def split_seed(recipe: Recipe) -> tuple[str, str]:
    """A run's name without its seed, and ``_seed1``, which is empty where the name has none."""
    found = re.search(rf"_seed{recipe.seed}$", recipe.name)
    if found is None:
        return recipe.name, ""
    return recipe.name[: found.start()], found[0]


def base_arm(recipe: Recipe) -> str:
    """A run's name without its seed and its order."""
    arm, _ = split_seed(recipe)
    return arm.removesuffix(_suffix(own_order(recipe)))


def order_name(order: Sequence[str]) -> str:
    """An order as a part of a run's name: its targets; of a long one the first, and a digest."""
    return short_name("-".join(file_name(name) for name in order))


def _suffix(order: Sequence[str]) -> str:
    return f"_order_{order_name(order)}"
