"""The command line: it parses, calls and prints. What is slow to import is imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.errors import MuhdiError

app = typer.Typer(
    name="muhdi",
    help="Continual unsupervised domain adaptation for semantic segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

RecipeArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe (muhdi recipes).")]
Set = Annotated[
    list[str],
    typer.Option("--set", help="Change a key of the recipe: every_step.iterations=100. Repeatable.", metavar="KEY=VALUE"),
]
Seed = Annotated[Optional[int], typer.Option("--seed", min=0, help="Replace the recipe's seed; the run is named after it.")]
Experiments = Annotated[Path, typer.Option("--experiments", help="Folder of snapshots/ and logs/.")]


@app.command()
def train(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = Path("experiments"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the run exists.")] = False,
) -> None:
    """Train a whole sequence, and evaluate every domain after every step."""
    from rich.console import Console

    from muhdi.recipe import load_recipe
    from muhdi.report.tables import matrix_table, summary_line

    if resume and overwrite:
        raise MuhdiError("--resume and --overwrite exclude each other: go on with the run, or start it anew")
    loaded = load_recipe(recipe, settings, seed)
    from muhdi.training.sequence import run_sequence
    from muhdi.training.trainer import Interrupted

    try:
        results = run_sequence(loaded, experiments, resume=resume, overwrite=overwrite)
    except Interrupted as stop:
        command = " ".join(["muhdi", *(a for a in sys.argv[1:] if a not in ("--resume", "--overwrite"))])
        typer.echo(f"stopped; everything is saved. To go on: {command} --resume", err=True)
        raise typer.Exit(128 + stop.signum) from None
    console = Console(highlight=False)
    for kind in results.kinds():
        console.print(matrix_table(results, kind))
        console.print(summary_line(results, kind), soft_wrap=True)
    console.print(f"Written to {experiments / 'snapshots' / loaded.name}", soft_wrap=True)


@app.command()
def recipes(name: Annotated[Optional[str], typer.Argument(help="Print this recipe in full.")] = None) -> None:
    """List the shipped recipes, or print one with every default written out."""
    from rich.console import Console
    from rich.table import Table

    from muhdi.recipe import load_recipe, save_recipe, shipped_recipes

    if name is not None:
        typer.echo(save_recipe(load_recipe(name)), nl=False)
        return
    table = Table("recipe", "what it does", box=None)
    for known in shipped_recipes():
        table.add_row(known, load_recipe(known).description)
    Console(highlight=False).print(table)


def main() -> None:
    """Entry point: a mistake of the user's is one line and exit status 2."""
    try:
        app()
    except MuhdiError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
