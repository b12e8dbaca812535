"""Commands on trained networks: evaluate, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from muhdi.cli.common import (
    Experiments,
    FormatOption,
    Set,
    TrustCode,
    check_format,
    one_line,
    print_tables,
)

if TYPE_CHECKING:
    from muhdi.evaluation.results import Results


def evaluate(
    network: Annotated[
        Path,
        typer.Argument(
            help="A run directory (its newest network), a network file, or a recipe and its run."
        ),
    ],
    recipe: Annotated[
        Optional[str], typer.Option("--recipe", help="Domains of this recipe; else the run's own.")
    ] = None,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Annotated[
        Optional[int], typer.Option("--seed", min=0, help="Of the recipe's run.")
    ] = None,
    experiments: Experiments = None,
    statistics: Annotated[
        list[str], typer.Option("--statistics", help="running, domain or image. Repeatable.")
    ] = [],  # noqa: B006 - typer reads the default
    head: Annotated[str, typer.Option("--head", help="The head that is scored.")] = "agnostic",
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Measure the domains' statistics anew from their training images."
        ),
    ] = False,
    output: Annotated[
        Optional[Path],
        typer.Option("--json", help="Write the scores, per class too, to this file."),
    ] = None,
    form: FormatOption = None,
    trust_code: TrustCode = False,
) -> None:
    """Score networks on every domain of their recipe, under each kind of normalisation statistics.

    Of a recipe, its part ``test`` says what is scored: the run's last network, the best of its
    snapshots, given files, or an ensemble of them.
    """
    from muhdi.files import check_target, write_json
    from muhdi.workflows.evaluate import evaluate as run_evaluate
    from muhdi.workflows.evaluate import read_arguments

    check_format(form)
    if output is not None:
        check_target(output)
    what, domains = read_arguments(network, recipe, settings, seed, trust_code=trust_code)
    results = run_evaluate(
        what,
        domains,
        statistics=statistics,
        head=head,
        refresh=refresh,
        experiments=experiments,
        trust_code=trust_code,
    )
    print_scores(results, results.notes, form)
    if output is not None:
        write_json(output, results.to_json(sequence=False))


def print_scores(results: Results, notes: list[str], form: str | None = None) -> None:
    """Scores of every network, and per class those of the best one."""
    from muhdi.evaluation.results import best_row
    from muhdi.report.tables import classes_table, matrix_table

    tables = []
    for kind in results.kinds():
        tables += [
            matrix_table(results, kind, "network"),
            classes_table(results, kind, best_row(results, kind)),
        ]
    print_tables(tables, form)
    for note in notes:
        typer.echo(note, err=form is not None)


def convert(
    source: Annotated[
        Path, typer.Argument(help="A run directory, or a network's or discriminator's file.")
    ],
    target: Annotated[
        Path, typer.Argument(help="Ends in .pth: the reference's layout; in .safetensors: ours.")
    ],
    classes: Annotated[
        Optional[str], typer.Option("--classes", help="Class set of a reference's network.")
    ] = None,
    image_size: Annotated[
        tuple[int, int],
        typer.Option("--image-size", min=1, help="Width and height it was trained at."),
    ] = (640, 320),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Convert a network between our layout and the reference's; every weight keeps its bits."""
    from muhdi.deploy.convert import convert as run_convert

    for path in run_convert(
        source, target, classes=classes, image_size=image_size, overwrite=overwrite
    ):
        typer.echo(f"Written to {one_line(path)}")
    if target.suffix != ".safetensors":
        typer.echo("This layout has no place for the domains' statistics; keep the run for them.")
