"""The commands that a page of docs/ shows."""

from __future__ import annotations

import re
import shlex

import typer

from muhdi.cli import app
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.recipe.variations import read_varied, variations


def shell_lines(page: str) -> list[list[str]]:
    """The words of every command in the ``sh`` blocks of a page, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    lines = [line for block in blocks for line in block.splitlines() if line]
    return [shlex.split(line, comments=True) for line in lines]


def check_understood(words: list[str]) -> None:
    """A command has such options, and its recipes and settings load; ``mine.yml`` is the reader's.

    Args:
        words: of the command line, from ``muhdi`` on.
    """
    program, name, *rest = words
    assert program == "muhdi"
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    given = commands[name].make_context(name, list(rest)).params
    settings = list(given.get("settings", ()))
    if isinstance(given.get("recipe"), str) and given["recipe"] != "mine.yml":
        load_recipe(given["recipe"], settings)
    for recipe in given.get("recipes", ()):
        assert recipe in shipped_recipes()
        for one in variations(read_varied(given.get("vary", ()))):
            load_recipe(recipe, [*settings, *one.settings])
