"""Commands for one's own data: inspect, new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.common import FormatOption, RecipeArgument, Set, check_format, one_line, print_tables
from muhdi.errors import MuhdiError


def inspect(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    output: Annotated[
        Optional[Path],
        typer.Option("--output", "-o", help="Folder of the sheets; else inspection/NAME."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=12, help="Shown of each domain.")
    ] = 4,
    labels: Annotated[
        int, typer.Option("--labels", min=1, help="Counted of each domain, at most.")
    ] = 200,
    form: FormatOption = None,
) -> None:
    """Draw a contact sheet of every domain and count its classes, to show a wrong label table."""
    from muhdi.files import file_name
    from muhdi.preflight.inspect import inspect_domains
    from muhdi.recipe.load import load_recipe
    from muhdi.report.contact_sheet import contact_sheet, frequencies_table, warnings

    check_format(form)
    loaded = load_recipe(recipe, settings)
    classes, folder = loaded.class_set(), output or Path("inspection") / loaded.name
    domains = inspect_domains(loaded, samples, labels)
    print_tables([frequencies_table(domains, classes)], form)
    for line in warnings(domains, classes):
        typer.echo(f"note: {one_line(line)}", err=form is not None)
    for found in domains:
        path = folder / f"{file_name(found.domain)}.png"
        contact_sheet(path, found, classes)
        typer.echo(f"Written to {one_line(path)}", err=form is not None)


def new(
    source: Annotated[Path, typer.Argument(help="Folder of images and labels.")],
    targets: Annotated[
        Optional[list[Path]],
        typer.Argument(help="Folders of images of new places, in the order in which they come."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The recipe to write; it ends in .yml.")
    ] = Path("mine.yml"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
) -> None:
    """Write a commented recipe by looking into folders.

    Patterns, sizes, label ids and their shares.

    Class names are taken from classes.txt in the source's folder, one per line, where there is one.
    """
    from muhdi.files import check_target, write_text
    from muhdi.preflight.new import check_recipe, new_recipe

    check_target(output)
    if output.suffix not in (".yml", ".yaml"):
        raise MuhdiError(f"{output}: give a name that ends in .yml")
    if output.exists() and not overwrite:
        raise MuhdiError(
            f"{output}: exists already; choose another name with --output, or give --overwrite"
        )
    text = new_recipe(source, targets or [], output.stem)
    check_recipe(text, output.name)
    write_text(output, text)
    typer.echo(
        f"Written to {one_line(output)}; look at it, and then at its data: muhdi inspect"
        f" {one_line(output)}"
    )
