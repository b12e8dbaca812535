"""Completion in the shell: names of recipes, and keys of ``--set``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer


def recipe_names(incomplete: str) -> list[str]:
    """Shipped recipes, and YAML files in the folder."""
    from muhdi.recipe.load import shipped_recipes

    files = sorted(str(path) for path in Path().glob(f"{incomplete}*.y*ml"))
    return [*files, *(name for name in shipped_recipes() if name.startswith(incomplete))]


def recipe_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Keys of the recipe that the command line names, ``key=``."""
    from muhdi.errors import MuhdiError
    from muhdi.recipe.load import load_recipe

    # An option without its value ends the parsing, and what came before it is left in ``args``.
    for name in [context.params.get("recipe"), *context.args]:
        if not isinstance(name, str):
            continue
        try:
            recipe = load_recipe(name, trust_code=False)
        except (MuhdiError, OSError):
            continue
        keys = {f"{key}=" for key in _keys(recipe)}
        return sorted(key for key in keys if key.startswith(incomplete))
    return []


def _keys(section: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a section, and of the sections and lists in it."""
    from pydantic import BaseModel

    if isinstance(section, BaseModel):
        for name, field in type(section).model_fields.items():
            key = f"{prefix}{field.alias or name}"
            value = getattr(section, name)
            yield key
            yield from _keys(value, f"{key}.")
    elif isinstance(section, (list, tuple)) and any(isinstance(x, BaseModel) for x in section):
        for position, value in enumerate(section):
            yield from _keys(value, f"{prefix}{position}.")
