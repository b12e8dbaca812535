"""Commands that train: train, sweep, demo."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from muhdi.cli.common import (
    Experiments,
    FormatOption,
    Jobs,
    RecipeArgument,
    Seed,
    Set,
    check_format,
    console,
    print_run,
    print_tables,
    refuse_both,
)

if TYPE_CHECKING:
    from muhdi.recipe.schema import Recipe


def train(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again where the run exists.")
    ] = False,
    devices: Annotated[
        Optional[str],
        typer.Option(
            "--devices", help="Devices per machine, or auto: short for --set runtime.devices=N."
        ),
    ] = None,
    nodes: Annotated[
        Optional[int],
        typer.Option("--nodes", min=1, help="Machines: short for --set runtime.nodes=N."),
    ] = None,
    strategy: Annotated[
        Optional[str],
        typer.Option("--strategy", help="auto or ddp: short for --set runtime.strategy=NAME."),
    ] = None,
    skip_bad: Annotated[
        Optional[int],
        typer.Option(
            "--skip-bad",
            min=0,
            help="Batches per stage that may be left out where a loss is not finite.",
        ),
    ] = None,
) -> None:
    """Train a whole sequence, and evaluate every domain after every step."""
    from muhdi.recipe.load import load_recipe

    short = {"devices": devices, "nodes": nodes, "strategy": strategy, "skip_bad": skip_bad}
    settings = [
        *settings,
        *(f"runtime.{key}={value}" for key, value in short.items() if value is not None),
    ]
    train_and_print(
        load_recipe(recipe, settings, seed), experiments, resume=resume, overwrite=overwrite
    )


def train_and_print(
    recipe: Recipe, experiments: Path | None, *, resume: bool, overwrite: bool
) -> None:
    """Run a recipe, and print its results."""
    refuse_both(resume=resume, overwrite=overwrite)
    from muhdi import distributed
    from muhdi.run.directory import RunDirectory
    from muhdi.workflows.train import train as run_train

    results = run_train(recipe, experiments, resume=resume, overwrite=overwrite)
    if distributed.is_rank_zero():
        print_run(results, RunDirectory.of(recipe, experiments).folder)


def sweep(
    recipes: Annotated[list[str], typer.Argument(help="Recipes to compare: files or names.")],
    seeds: Annotated[
        list[int],
        typer.Option("--seed", min=0, help="Repeatable: every recipe runs with every seed."),
    ],
    settings: Set = [],  # noqa: B006 - typer reads the default
    experiments: Annotated[
        Path, typer.Option("--experiments", help="Folder of snapshots/ and logs/.")
    ] = Path("experiments"),
    jobs: Jobs = None,
    form: FormatOption = None,
) -> None:
    """Run several recipes over several seeds in parallel, and compare them: mean and spread."""
    from muhdi.report.tables import arms_table
    from muhdi.workflows.sweep import sweep as run_sweep

    check_format(form)
    say = partial(typer.echo, err=form is not None)
    arms = run_sweep(recipes, seeds, settings, experiments, jobs, say)
    print_tables([arms_table(arms, kind) for kind in next(iter(arms.values()))[0].kinds()], form)


DEMO = {
    "scenes_none": "none / none",
    "scenes_selftrain": "selftrain / none",
    "scenes_selftrain_distill": "selftrain / distill",
    "scenes_selftrain_muhdi": "selftrain / muhdi",
}
"""Shipped recipes, and what tables call them: adaptation / retention."""
DEMO_METHOD = "scenes_selftrain_muhdi"
DEMO_CONTROLS = {
    "scenes_selftrain": "sequential self-training",
    "scenes_selftrain_distill": "single-head distillation",
    "scenes_none": "no adaptation at all",
}
"""What the method is compared with, in words."""


def demo(
    seeds: Annotated[
        list[int], typer.Option("--seed", min=0, help="Of drawing and training. Repeatable.")
    ] = [41],  # noqa: B006
    settings: Set = [],  # noqa: B006 - typer reads the default
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the runs and the picture.")
    ] = Path("demo"),
    jobs: Jobs = None,
) -> None:
    """Built-in scenes, simulator -> city -> dust -> night: four arms, their results, one picture.

    No data needed.
    """
    from muhdi.report.prediction_grid import predictions_figure
    from muhdi.report.significance import reading
    from muhdi.report.tables import arms_table, matrix_table
    from muhdi.taxonomy import CLASS_SETS
    from muhdi.workflows.sweep import sweep as run_sweep

    out = console()
    runs = run_sweep(list(DEMO), seeds, settings, output, jobs, typer.echo)
    arms = {title: runs[recipe] for recipe, title in DEMO.items()}
    for title, results in arms.items():
        out.print(f"\n{title}")
        for kind in results[0].kinds():
            out.print(matrix_table(results[0], kind).terminal())
    kinds = sorted(runs[DEMO_METHOD][0].kinds(), key=("domain", "running", "image").index)
    for kind in kinds:
        out.print(arms_table(arms, kind).terminal())
    controls = {DEMO[recipe]: text for recipe, text in DEMO_CONTROLS.items()}
    out.print(reading(arms, kinds[0], DEMO[DEMO_METHOD], controls), soft_wrap=True)
    path = output / "predictions.png"
    snapshots = output / "snapshots"
    first = {title: results[0] for title, results in arms.items()}
    samples = {title: snapshots / result.name / "samples" for title, result in first.items()}
    predictions_figure(path, samples, first, CLASS_SETS["urban7"], kinds[0])
    out.print(f"Predictions of every arm on every domain: {path}", soft_wrap=True)
