"""Commands about recipes and their data: recipes, check, prepare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.common import Jobs, RecipeArgument, Set, console, one_line


def recipes(
    name: Annotated[Optional[str], typer.Argument(help="Print this recipe in full.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")
    ] = False,
) -> None:
    """List the shipped recipes, or print one with every default written out."""
    from rich.table import Table

    from muhdi.recipe.docs import json_schema
    from muhdi.recipe.load import load_recipe, save_recipe, shipped_recipes

    if schema:
        typer.echo(json.dumps(json_schema(), indent=1))
        return
    if name is not None:
        typer.echo(save_recipe(load_recipe(name)), nl=False)
        return
    table = Table("recipe", "what it does", box=None)
    for known in shipped_recipes():
        table.add_row(known, load_recipe(known).description)
    console().print(table)


def check(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    jobs: Jobs = None,
    output: Annotated[
        Optional[Path],
        typer.Option("--json", help="Write all that was found, each file too, to this file."),
    ] = None,
) -> None:
    """Look at every image and label that a run reads, before days are spent.

    Status 1 if anything would spoil it.
    """
    from rich.progress import Progress

    from muhdi.files import check_target, write_json
    from muhdi.preflight.check import check as run_check
    from muhdi.preflight.check import to_json
    from muhdi.recipe.load import load_recipe
    from muhdi.report.check_tables import classes_table, splits_table

    if output is not None:
        check_target(output)
    out = console()
    loaded = load_recipe(recipe, settings)
    with Progress(console=out, disable=not out.is_terminal) as progress:
        task = progress.add_task("looking", total=None)
        report = run_check(
            loaded, jobs, lambda done, total: progress.update(task, completed=done, total=total)
        )
    out.print(splits_table(report))
    if (classes := classes_table(report)) is not None:
        out.print(classes)
    for heading, lines in (("note", report.notes), ("problem", report.problems)):
        for line in lines:
            out.print(f"{heading}: {one_line(line)}", soft_wrap=True, markup=False)
    if output is not None:
        write_json(output, to_json(report))
    if report.problems:
        raise typer.Exit(1)
    out.print("Nothing was found that would stop the training or spoil it.", soft_wrap=True)


def prepare(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    jobs: Jobs = None,
) -> None:
    """Decode and resize every image of a recipe into its cache, before training.

    What is there already stays.
    """
    from rich.progress import Progress

    from muhdi.preflight.fill_cache import prepare as run_prepare
    from muhdi.recipe.load import load_recipe

    out = console()
    loaded = load_recipe(recipe, settings)
    with Progress(console=out, disable=not out.is_terminal) as progress:
        task = progress.add_task("decoding", total=None)
        count = run_prepare(
            loaded, jobs, lambda done, total: progress.update(task, completed=done, total=total)
        )
    out.print(f"{count} samples are in {loaded.runtime.cache}", soft_wrap=True)
