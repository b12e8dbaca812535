"""The command that describes a network and its cost: info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.complete import recipe_names
from muhdi.cli.options import Quiet, Set, TrustCode
from muhdi.cli.output import console, one_line, print_costs, print_tables, progress
from muhdi.errors import RecipeError

Described = Annotated[
    str,
    typer.Argument(
        help="A recipe (file or name), a run directory (its newest network), a network file, or an"
        " exported folder.",
        autocompletion=recipe_names,
    ),
]
CountedSize = Annotated[
    Optional[tuple[int, int]],
    typer.Option(
        "--size",
        help="Width and height of the image of which operations and features are counted. By"
        " default that of the training images.",
    ),
]
Measure = Annotated[
    bool,
    typer.Option(
        "--measure",
        help="Do a dry run of the recipe, too: seconds and memory of an iteration, time of all.",
    ),
]
InfoJson = Annotated[
    Optional[Path], typer.Option("--json", help="Write everything in full to this file.")
]


def info(
    what: Described,
    settings: Set = [],  # noqa: B006 - typer reads the default
    size: CountedSize = None,
    measure: Measure = False,
    output: InfoJson = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Show the parameters, features and operations of a recipe's network or of a trained one.

    No data are opened, except with --measure.
    """
    from muhdi.files import check_target, write_json
    from muhdi.report.info_tables import facts_table, features_table, parameters_table
    from muhdi.workflows.info import info as describe
    from muhdi.workflows.info import to_json

    if output is not None:
        check_target(output)
    found = describe(what, settings, size=size, trust_code=trust_code)
    if measure and found.recipe is None:
        raise RecipeError(f"--measure: tries a recipe, but {what} is a network; give its recipe")
    facts = {name: one_line(text) for name, text in found.texts.items()}
    console().print(facts_table(one_line(found.name), facts))
    print_tables([parameters_table(found.network), features_table(found.network)])
    costs = None
    if measure and found.recipe is not None:
        # Only here, since what trains takes long to import.
        from muhdi.workflows.dry_run import dry_run

        with progress("dry run", quiet=quiet) as bar:
            costs = dry_run(found.recipe, on_progress=bar.update)
        print_costs(costs)
    if output is not None:
        write_json(output, to_json(found, costs))
