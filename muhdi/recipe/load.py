"""Recipes by name or file, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from muhdi.recipe.read import find_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe

__all__ = ["RECIPE", "find_recipe", "load_recipe", "save_recipe", "shipped_recipes"]

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


def save_recipe(recipe: Recipe) -> str:
    """The whole recipe, every default written out, as YAML."""
    data = recipe.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
