"""Commands that train: train, adapt, sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from muhdi.cli.complete import recipe_names
from muhdi.cli.options import (
    Experiments,
    Format,
    Jobs,
    ModelArgument,
    OverwriteRun,
    Quiet,
    RecipeArgument,
    Resume,
    Seed,
    Set,
    TrustCode,
)
from muhdi.cli.output import (
    check_format,
    console,
    one_line,
    print_costs,
    print_page,
    print_run,
    print_tables,
    progress,
)
from muhdi.errors import RecipeError

if TYPE_CHECKING:
    from muhdi.evaluation.results import Results

Devices = Annotated[
    Optional[str],
    typer.Option(
        "--devices", help="Devices per machine, or auto: short for --set runtime.devices=N."
    ),
]
Nodes = Annotated[
    Optional[int],
    typer.Option("--nodes", min=1, help="Machines: short for --set runtime.nodes=N."),
]
Strategy = Annotated[
    Optional[str],
    typer.Option("--strategy", help="auto or ddp: short for --set runtime.strategy=NAME."),
]
SkipBad = Annotated[
    Optional[int],
    typer.Option(
        "--skip-bad",
        min=0,
        help="Batches per stage that may be skipped because a loss is not finite.",
    ),
]
TryOut = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Build everything, do two iterations of every stage, and estimate the time; nothing is"
        " written.",
    ),
]
NewImages = Annotated[
    Path, typer.Option("--images", help="Folder of images of the new place; no labels needed.")
]
SourceRecipe = Annotated[
    Optional[str],
    typer.Option(
        "--source",
        help="Recipe with the source to train on and the domains to score. By default the run's.",
    ),
]
SourceFree = Annotated[
    bool,
    typer.Option(
        "--source-free",
        help="Learn from the new images alone: the source's need not be there. A network's file is"
        " enough.",
    ),
]
Recipes = Annotated[
    list[str],
    typer.Argument(help="Recipes to compare: files or names.", autocompletion=recipe_names),
]
Seeds = Annotated[
    list[int],
    typer.Option("--seed", min=0, help="Every recipe runs with every seed. Repeatable."),
]
SweepFolder = Annotated[Path, typer.Option("--experiments", help="Folder of snapshots/ and logs/.")]


def train(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = None,
    resume: Resume = False,
    overwrite: OverwriteRun = False,
    devices: Devices = None,
    nodes: Nodes = None,
    strategy: Strategy = None,
    skip_bad: SkipBad = None,
    try_out: TryOut = False,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Train a whole sequence, and evaluate every domain after every stage."""
    from muhdi import distributed
    from muhdi.recipe.load import load_recipe
    from muhdi.workflows.dry_run import dry_run
    from muhdi.workflows.train import train as run_train

    _refuse_both(resume=resume, overwrite=overwrite)
    if try_out and (resume or overwrite or experiments is not None):
        raise RecipeError(
            "--dry-run: writes nothing; leave --resume, --overwrite and --experiments out"
        )
    short = {"devices": devices, "nodes": nodes, "strategy": strategy, "skip_bad": skip_bad}
    given = [f"runtime.{key}={value}" for key, value in short.items() if value is not None]
    loaded = load_recipe(recipe, [*settings, *given], seed, trust_code=trust_code or None)
    if try_out:
        with progress("dry run", quiet=quiet) as bar:
            costs = dry_run(loaded, on_progress=bar.update)
        print_costs(costs)
        return
    results = run_train(loaded, experiments, resume=resume, overwrite=overwrite, quiet=quiet)
    if distributed.is_rank_zero():
        print_run(results, loaded, experiments)


def adapt(
    model: ModelArgument,
    images: NewImages,
    source: SourceRecipe = None,
    source_free: SourceFree = False,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = None,
    resume: Resume = False,
    overwrite: OverwriteRun = False,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Adapt a trained network to a new place, and report what changed on every domain.

    It trains one more step like the last one of the network's run (--set every_step.iterations=500
    changes it), into a run of its own. Domains with labels are scored before and after. For all of
    them, confidence, entropy and the agreement of the old and the new network are measured.
    """
    from muhdi import distributed
    from muhdi.report.run_files import read_run
    from muhdi.report.tables import change_table
    from muhdi.run.directory import RunDirectory
    from muhdi.workflows.adapt import adapt_as_planned, plan_adaptation

    _refuse_both(resume=resume, overwrite=overwrite)
    plan = plan_adaptation(
        model,
        images,
        source=source,
        source_free=source_free,
        settings=settings,
        seed=seed,
        trust_code=trust_code,
    )
    for note in plan.notes:
        typer.echo(f"note: {one_line(note)}")
    results = adapt_as_planned(plan, experiments, resume=resume, overwrite=overwrite, quiet=quiet)
    if not distributed.is_rank_zero():
        return
    print_run(results, plan.recipe, experiments)
    run = read_run(RunDirectory.of(plan.recipe, experiments).folder)
    print_tables([change_table(run.change, run.results.main_statistics)])


def sweep(
    recipes: Recipes,
    seeds: Seeds,
    settings: Set = [],  # noqa: B006 - typer reads the default
    experiments: SweepFolder = Path("experiments"),
    jobs: Jobs = None,
    form: Format = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Run several recipes over several seeds in parallel, and compare them: mean and spread."""
    from muhdi.report.tables import arms_table
    from muhdi.workflows.sweep import sweep as run_sweep

    check_format(form)
    with progress("sweep", quiet=quiet) as bar:
        arms = run_sweep(
            recipes,
            seeds,
            settings,
            experiments,
            jobs,
            bar.print,
            trust_code=trust_code,
            on_progress=bar.update,
        )
    first = next(iter(arms.values()))[0]
    shown = [first.main_statistics] if form is None else first.statistics
    print_tables([arms_table(arms, statistics) for statistics in shown], form)
    page, sentences = _compared(arms, experiments, first.main_statistics)
    if form is None:
        for sentence in sentences:
            console().print(sentence, markup=False)
    print_page(page, form)


def _compared(
    arms: Mapping[str, Sequence[Results]], experiments: Path, statistics: str
) -> tuple[Path, list[str]]:
    """The page that compares the runs of a sweep with the first recipe, and what they say."""
    from muhdi.report.compare import group, readings, reference_arm, write_comparison
    from muhdi.report.run_files import read_run

    runs = []
    for results in arms.values():
        runs += [read_run(experiments / "snapshots" / one.name) for one in results]
    grouped = group(runs, "arm")
    against = reference_arm(grouped, None)
    page = write_comparison(experiments / "comparison.html", grouped, against)
    return page, readings(grouped, against, statistics)


def _refuse_both(*, resume: bool, overwrite: bool) -> None:
    """``--resume`` and ``--overwrite`` contradict each other."""
    if resume and overwrite:
        raise RecipeError(
            "--resume and --overwrite exclude each other: continue the run, or start it again"
        )
