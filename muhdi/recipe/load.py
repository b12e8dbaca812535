"""Recipes by name or file, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from muhdi.recipe.read import find_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe
from muhdi.recipe.section import plain

__all__ = ["RECIPE", "find_recipe", "given_recipe", "load_recipe", "save_recipe", "shipped_recipes"]

RECIPE = "recipe.yml"
"""File of a run's recipe, in its directory."""


def load_recipe(
    recipe: str | Path,
    settings: Sequence[str] = (),
    seed: int | None = None,
    *,
    trust_code: bool | None = None,
) -> Recipe:
    """A checked recipe, see `Recipe.load`."""
    return Recipe.load(recipe, settings, seed, trust_code=trust_code)


def given_recipe(recipe: Recipe | Path | str, *, trust_code: bool) -> Recipe:
    """A recipe, read if it is named; without ``trust_code``, trusted as its place says.

    Raises:
        RecipeError: it is wrong, or a class that it names cannot be imported.
    """
    if isinstance(recipe, Recipe):
        return recipe.trusted() if trust_code else recipe
    return load_recipe(recipe, trust_code=trust_code or None)


def save_recipe(recipe: Recipe) -> str:
    """The whole recipe, every default written out, as YAML."""
    return yaml.safe_dump(plain(recipe), sort_keys=False, allow_unicode=True)
