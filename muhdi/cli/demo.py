"""The command ``muhdi demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.options import Quiet, Set, TrainingJobs
from muhdi.cli.output import console, print_page, progress

DemoSeeds = Annotated[
    list[int], typer.Option("--seed", min=0, help="Seed of drawing and training. Repeatable.")
]
DemoFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the runs and the page.")
]
Real = Annotated[
    Optional[Path],
    typer.Option(
        "--real",
        help="Your own images instead of drawn ones: a folder that holds two or three folders, one"
        " with images and labels, the others with images of new places.",
    ),
]


def demo(
    seeds: DemoSeeds = [41],  # noqa: B006 - typer reads the default
    settings: Set = [],  # noqa: B006 - typer reads the default
    output: DemoFolder = Path("demo"),
    real: Real = None,
    jobs: TrainingJobs = None,
    quiet: Quiet = False,
) -> None:
    """Adapt to one new place after another, and show what is gained, forgotten and kept.

    It draws its own scenes (day, snow, wet night, abroad, snow again) and takes
    some minutes. It ends with one page: before, sequential, kept.
    """
    from muhdi.workflows.demo import demo as run_demo

    with progress("demo", quiet=quiet) as bar:
        done = run_demo(
            output,
            seeds=seeds,
            settings=settings,
            jobs=jobs,
            real=real,
            log=bar.print,
            on_progress=bar.update,
        )
    out = console()
    out.print(done.table.terminal())
    out.print(done.sentence, markup=False)
    print_page(done.page)
