"""Commands for data and recipes: recipes, new, inspect, check, prepare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from muhdi.cli.complete import recipe_names
from muhdi.cli.options import Format, Jobs, OverwriteFiles, Quiet, RecipeArgument, Set, TrustCode
from muhdi.cli.output import check_format, console, one_line, print_notes, print_tables, progress
from muhdi.errors import RecipeError

if TYPE_CHECKING:
    from muhdi.recipe.schema import Recipe

RecipeName = Annotated[
    Optional[str],
    typer.Argument(help="Print this recipe in full.", autocompletion=recipe_names),
]
Schema = Annotated[
    bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")
]
SourceFolder = Annotated[Path, typer.Argument(help="Folder of images and labels.")]
TargetFolders = Annotated[
    Optional[list[Path]],
    typer.Argument(help="Folders of images of new places, in the order in which they come."),
]
NewRecipe = Annotated[
    Path, typer.Option("--output", "-o", help="The recipe to write; it ends in .yml.")
]
Sheets = Annotated[
    Optional[Path],
    typer.Option("--output", "-o", help="Folder of the sheets. By default inspection/NAME."),
]
SamplesShown = Annotated[
    int, typer.Option("--samples", min=1, max=12, help="Samples of each domain that are shown.")
]
LabelsCounted = Annotated[
    int, typer.Option("--labels", min=1, help="Labels of each domain that are counted, at most.")
]
CheckJson = Annotated[
    Optional[Path],
    typer.Option("--json", help="Write everything that was found, file by file, to this file."),
]

Shards = Annotated[
    Optional[str],
    typer.Option(
        "--shards",
        help="Write shards to this folder or address, such as s3://bucket/folder.",
        metavar="FOLDER",
    ),
]
Decoded = Annotated[
    bool,
    typer.Option(
        "--decoded",
        help="Shards hold pixels at the recipe's size. By default they hold the images' files.",
    ),
]
ShardMb = Annotated[
    Optional[int],
    typer.Option(
        "--shard-mb", min=1, max=1024, help="About as many MiB are in a shard. By default 64."
    ),
]
ShardRecipe = Annotated[
    Optional[Path],
    typer.Option("--output", "-o", help="Write the recipe, changed to read the shards, here."),
]


def recipes(name: RecipeName = None, schema: Schema = False) -> None:
    """List the shipped recipes, or print one with every default written out."""
    from rich.table import Table

    from muhdi.recipe.docs import json_schema
    from muhdi.recipe.load import load_recipe, save_recipe, shipped_recipes

    if schema:
        typer.echo(json.dumps(json_schema(), indent=1))
        return
    if name is not None:
        typer.echo(save_recipe(load_recipe(name, trust_code=False)), nl=False)
        return
    table = Table("recipe", "what it does", box=None)
    for known in shipped_recipes():
        table.add_row(known, load_recipe(known).description)
    console().print(table)


def new(
    source: SourceFolder,
    targets: TargetFolders = None,
    output: NewRecipe = Path("mine.yml"),
    overwrite: OverwriteFiles = False,
) -> None:
    """Write a commented recipe for your own folders.

    It looks into the folders for file patterns, image sizes, and the ids in labels with their share
    of the pixels. Class names are taken from classes.txt in the source's folder, one per line, or
    from the file of an annotation tool, such as labelmap.txt, if there is one.
    """
    from muhdi.files import check_target, write_text
    from muhdi.preflight.new import check_recipe, new_recipe

    check_target(output)
    if output.suffix not in (".yml", ".yaml"):
        raise RecipeError(f"{output}: give a name that ends in .yml")
    if output.exists() and not overwrite:
        raise RecipeError(
            f"{output}: exists already; choose another name with --output, or give --overwrite"
        )
    text, notes = new_recipe(source, targets or [], output.stem)
    check_recipe(text, output.name)
    write_text(output, text)
    print_notes(notes)
    path = one_line(output)
    typer.echo(f"Written to {path}; look through it, then at its data: muhdi inspect {path}")


def inspect(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    output: Sheets = None,
    samples: SamplesShown = 4,
    labels: LabelsCounted = 200,
    form: Format = None,
    trust_code: TrustCode = False,
) -> None:
    """Draw a contact sheet of every domain and count its classes.

    It shows a wrong label table before any training.
    """
    from muhdi.files import file_name
    from muhdi.preflight.inspect import inspect_domains
    from muhdi.recipe.load import load_recipe
    from muhdi.report.contact_sheet import contact_sheet, frequencies_table, warnings

    check_format(form)
    loaded = load_recipe(recipe, settings, trust_code=trust_code or None)
    classes = loaded.class_set()
    folder = output or Path("inspection") / loaded.name
    domains = inspect_domains(loaded, samples, labels)
    print_tables([frequencies_table(domains, classes)], form)
    print_notes(warnings(domains, classes), err=form is not None)
    for found in domains:
        path = folder / f"{file_name(found.domain)}.png"
        contact_sheet(path, found, classes)
        typer.echo(f"Written to {one_line(path)}", err=form is not None)


def check(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    jobs: Jobs = None,
    output: CheckJson = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Read every image and label of a recipe, and report what would stop or spoil the training.

    The exit status is 1 if there is such a problem.
    """
    from muhdi.files import check_target, write_json
    from muhdi.preflight.check import check as run_check
    from muhdi.preflight.check import to_json
    from muhdi.recipe.load import load_recipe
    from muhdi.report.check_tables import classes_table, splits_table

    if output is not None:
        check_target(output)
    loaded = load_recipe(recipe, settings, trust_code=trust_code or None)
    with progress("checking", quiet=quiet) as bar:
        report = run_check(loaded, jobs, bar.update)
    out = console()
    out.print(splits_table(report))
    classes = classes_table(report)
    if classes is not None:
        out.print(classes)
    for heading, lines in (("note", report.notes), ("problem", report.problems)):
        for line in lines:
            out.print(f"{heading}: {one_line(line)}", soft_wrap=True, markup=False)
    if output is not None:
        write_json(output, to_json(report))
    if report.problems:
        raise typer.Exit(1)
    out.print("No problems found.")


def prepare(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    shards: Shards = None,
    decoded: Decoded = False,
    shard_mb: ShardMb = None,
    output: ShardRecipe = None,
    jobs: Jobs = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Decode and resize every image of a recipe into its cache, or write shards, before training.

    Images that are in the cache already are left as they are. With --shards nothing goes into the
    cache: all domains are written as a few large files, which dataset: shards reads.
    """
    from muhdi.preflight.fill_cache import prepare as run_prepare
    from muhdi.recipe.load import load_recipe

    loaded = load_recipe(recipe, settings, trust_code=trust_code or None)
    if shards is not None:
        write_as_shards(loaded, shards, decoded, shard_mb or 64, output, jobs, quiet)
        return
    for option, given in (("decoded", decoded), ("shard-mb", shard_mb), ("output", output)):
        if given:
            raise RecipeError(f"--{option}: is for --shards; give --shards FOLDER, or leave it out")
    with progress("decoding", quiet=quiet) as bar:
        count = run_prepare(loaded, jobs, bar.update)
    console().print(f"{count} samples are in {loaded.runtime.cache}", soft_wrap=True)


def write_as_shards(
    recipe: Recipe,
    out: str,
    decoded: bool,
    shard_mb: int,
    output: Path | None,
    jobs: int | None,
    quiet: bool,
) -> None:
    """What `prepare` does with ``--shards``."""
    from muhdi.files import check_target, write_text
    from muhdi.preflight.shard_plan import recipe_of_shards
    from muhdi.preflight.write_shards import write_shards
    from muhdi.recipe.load import save_recipe

    if output is not None:
        check_target(output)
        if output.exists():
            raise RecipeError(f"{output}: exists already; choose another name with --output")
    with progress("writing", quiet=quiet) as bar:
        found = write_shards(
            recipe, out, decoded=decoded, shard_mb=shard_mb, jobs=jobs, on_progress=bar.update
        )
    for one in found:
        labels = "with labels" if one.labelled else "without labels"
        there = "" if one.new else ", there already"
        shards = "1 shard" if one.shards == 1 else f"{one.shards} shards"
        line = f"{one.images} images {labels} in {shards}{there}: {one.address}"
        console().print(
            one_line(f"{one.domain}, {one.split}: {line}"), soft_wrap=True, markup=False
        )
    if output is not None:
        write_text(output, save_recipe(recipe_of_shards(recipe, out)))
        typer.echo(f"Written to {one_line(output)}: the recipe, which reads the shards")
