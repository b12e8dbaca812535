"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.complete import recipe_keys, recipe_names
from muhdi.errors import RecipeError

# --- what a command works on ----------------------------------------------------------------------

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A YAML file, or the name of a shipped recipe (muhdi recipes).",
        autocompletion=recipe_names,
    ),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="A run directory (its newest network), a network file, or an exported folder."
    ),
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Change a key of the recipe: every_step.iterations=100. Repeatable.",
        metavar="KEY=VALUE",
        autocompletion=recipe_keys,
    ),
]
Seed = Annotated[
    Optional[int],
    typer.Option("--seed", min=0, help="Replace the recipe's seed, and add it to the run's name."),
]

# --- how a network predicts -----------------------------------------------------------------------

Head = Annotated[
    Optional[str],
    typer.Option("--head", help="The head that predicts. By default the agnostic one."),
]
Statistics = Annotated[
    Optional[str],
    typer.Option(
        "--statistics",
        help="running, image, blend, pooled, or domain with --domain NAME. By default what the"
        " network's file names, running in most.",
    ),
]
Bands = Annotated[
    list[str],
    typer.Option(
        "--bands",
        help="Pattern of further files of each image, for a network of more than three channels:"
        " '{parent:rgb=nir}/{stem}.png'. {parent} is the image's folder. Repeatable.",
        metavar="PATTERN",
    ),
]
Weights = Annotated[
    Optional[str],
    typer.Option(
        "--weights",
        help="model, ema for their average, or teacher for the mean teacher's. By default what the"
        " network's file or the recipe names, model in most.",
    ),
]
Domain = Annotated[
    Optional[str],
    typer.Option("--domain", help="Normalise with the stored statistics of this domain."),
]

Scales = Annotated[
    Optional[str],
    typer.Option(
        "--scales",
        help="Average the probabilities of the image at these multiples of its size: 0.75,1,1.25.",
        metavar="FACTORS",
    ),
]


def read_scales(text: str) -> list[float]:
    """The factors of ``--scales``.

    Raises:
        RecipeError: one is no number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(
            f"--scales {text!r}: must be numbers with commas between them, such as 0.75,1,1.25"
        ) from None


def read_orders(words: list[str]) -> str | int | list[list[str]] | None:
    """What ``--orders`` asks for: a word, a number, or the orders themselves; None: nothing.

    Raises:
        RecipeError: a word or a number stands next to another value.
    """
    if not words:
        return None
    if len(words) == 1 and "," not in words[0]:
        word = words[0]
        return int(word) if word.isascii() and word.isdigit() else word
    for word in words:
        if "," not in word:
            raise RecipeError(f"--orders {word}: only orders such as dusk,bright are repeatable")
    return [word.split(",") for word in words]


# --- where runs are, and what happens to existing ones --------------------------------------------

Experiments = Annotated[
    Optional[Path],
    typer.Option(
        "--experiments",
        help="Folder of snapshots/ and logs/. By default the recipe says where they are.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
OverwriteRun = Annotated[
    bool, typer.Option("--overwrite", help="Start again, replacing the run if it exists.")
]
OverwriteFiles = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]

# --- how a command works --------------------------------------------------------------------------

Jobs = Annotated[
    Optional[int],
    typer.Option("--jobs", min=1, help="Processes at a time. By default one per core."),
]
TrainingJobs = Annotated[
    Optional[int],
    typer.Option(
        "--jobs",
        min=1,
        help="Processes at a time. By default one per GPU, or per core where there is no GPU.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results, but no progress.")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Import classes of other packages that a run or a network names."
    ),
]
Format = Annotated[
    Optional[str],
    typer.Option(
        "--format",
        help="Print only the tables, as markdown, latex, csv or json.",
        metavar="FORMAT",
    ),
]
