"""Commands that train: train, adapt, sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from muhdi.cli.complete import recipe_keys, recipe_names
from muhdi.cli.online import (
    Adapted,
    EveryFrame,
    LearningRates,
    Methods,
    OnlineDevice,
    OnlineOptions,
    Rounds,
    Stream,
    adapt_online,
)
from muhdi.cli.options import (
    Bands,
    Domain,
    Experiments,
    Format,
    Head,
    ModelArgument,
    OverwriteRun,
    Quiet,
    RecipeArgument,
    Resume,
    Seed,
    Set,
    Statistics,
    TrainingJobs,
    TrustCode,
    Weights,
    read_orders,
)
from muhdi.cli.output import (
    check_format,
    console,
    live_board,
    one_line,
    print_costs,
    print_notes,
    print_page,
    print_run,
    print_tables,
    progress,
)
from muhdi.errors import RecipeError

if TYPE_CHECKING:
    from muhdi.evaluation.results import Results
    from muhdi.report.run_files import RunData

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
    Optional[Path],
    typer.Option("--images", help="Folder of images of the new place; no labels needed."),
]
InputSize = Annotated[
    Optional[tuple[int, int]],
    typer.Option(
        "--size",
        help="With --online: width and height at which the network sees an image. By default as in"
        " training.",
    ),
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
Order = Annotated[
    Optional[str],
    typer.Option(
        "--order",
        help="The targets in another order, dusk,bright for example; the run's name then tells it.",
        metavar="TARGETS",
    ),
]
OrdersList = Annotated[
    list[str],
    typer.Option(
        "--orders",
        help="Every recipe runs with its targets in several orders: all, reverse (the first"
        " recipe's own and the reverse), N (its own, and others drawn at random, N together), or"
        " targets with commas between them; the last is repeatable.",
        metavar="WHICH",
    ),
]
VaryList = Annotated[
    list[str],
    typer.Option(
        "--vary",
        help="Every recipe runs with each value of a key: 'every_step.iterations=[100, 300]'."
        " Given for several keys, with every combination.",
        metavar="KEY=[VALUES]",
        autocompletion=recipe_keys,
    ),
]
Gpus = Annotated[
    Optional[str],
    typer.Option(
        "--gpus",
        help="auto, or numbers such as 0,1: every process sees one of them. By default all there"
        " are.",
    ),
]
ClusterFile = Annotated[
    Optional[Path],
    typer.Option(
        "--cluster",
        help="Hand the runs to a cluster: a YAML file of submitit's parameters, such as"
        " timeout_min: 240 and slurm_partition: gpu.",
        metavar="FILE",
    ),
]
PrintCommands = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the commands of the runs, those of the sources first, for any scheduler;"
        " nothing is written.",
    ),
]
Control = Annotated[
    Optional[str],
    typer.Option(
        "--control",
        help="The arm that the others are compared with. By default the first without adaptation"
        " and retention, or else the first.",
        metavar="ARM",
    ),
]
SweepFolder = Annotated[
    Optional[Path],
    typer.Option(
        "--experiments", help="Folder of snapshots/ and logs/.", show_default="experiments"
    ),
]


def train(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    order: Order = None,
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
    from muhdi.recipe.orders import in_order
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
    if order is not None:
        loaded = in_order(loaded, order.split(","))
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
    images: NewImages = None,
    online: Stream = None,
    source: SourceRecipe = None,
    source_free: SourceFree = False,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = None,
    resume: Resume = False,
    overwrite: OverwriteRun = False,
    method: Methods = [],  # noqa: B006 - typer reads the default
    rounds: Rounds = None,
    learning_rates: LearningRates = None,
    output: Adapted = None,
    size: InputSize = None,
    every: EveryFrame = None,
    bands: Bands = [],  # noqa: B006 - typer reads the default
    device: OnlineDevice = None,
    head: Head = None,
    statistics: Statistics = None,
    domain: Domain = None,
    weights: Weights = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Adapt a trained network to a new place, and report what changed on every domain.

    With --images it trains one more step like the last one of the network's run (--set
    every_step.iterations=500 changes it), into a run of its own. Domains with labels are scored
    before and after. For all of them, confidence, entropy and the agreement of the old and the new
    network are measured.

    With --online it predicts a stream, and adapts to every image right after. --set then changes an
    option of the method (learning_rate=1e-4), or with a recipe a key of that.
    """
    use = (head, statistics, domain, weights)
    how = OnlineOptions(method, rounds, learning_rates, output, size, every, bands, device, *use)
    training = {
        "--images": images,
        "--source": source,
        "--source-free": source_free,
        "--seed": seed,
        "--experiments": experiments,
        "--resume": resume,
    }
    # Not by equality: a seed of 0 equals False.
    given = [name for name, value in training.items() if value is not None and value is not False]
    common = {"overwrite": overwrite, "quiet": quiet, "trust_code": trust_code}
    if online is not None:
        if given:
            raise RecipeError(f"{given[0]}: trains a step, but --online does not; give one of them")
        adapt_online(model, online, how, settings, **common)
        return
    if bands and images is not None:
        raise RecipeError(
            "--bands: is for --online; for --images, whose patterns are those of a recipe, give"
            " --set 'steps.0.target.bands=[\"../nir/{stem}.png\"]'"
        )
    if how.given():
        raise RecipeError(f"{how.given()[0]}: is for --online; name a stream with it")
    if images is None:
        raise RecipeError("--images: is missing; name a folder of images, or a stream by --online")
    _refuse_both(resume=resume, overwrite=overwrite)
    _train_step(
        model,
        images,
        source=source,
        source_free=source_free,
        settings=settings,
        seed=seed,
        experiments=experiments,
        resume=resume,
        **common,
    )


def _train_step(
    model: Path,
    images: Path,
    *,
    experiments: Path | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    trust_code: bool,
    **planned: Any,
) -> None:
    """One more step, from a folder of images."""
    from muhdi import distributed
    from muhdi.report.run_files import read_run
    from muhdi.report.tables import change_table
    from muhdi.run.directory import RunDirectory
    from muhdi.workflows.adapt import adapt_as_planned, plan_adaptation

    plan = plan_adaptation(model, images, trust_code=trust_code, **planned)
    print_notes(plan.notes)
    results = adapt_as_planned(plan, experiments, resume=resume, overwrite=overwrite, quiet=quiet)
    if not distributed.is_rank_zero():
        return
    print_run(results, plan.recipe, experiments)
    run = read_run(RunDirectory.of(plan.recipe, experiments).folder)
    print_tables([change_table(run.change, run.results.main_statistics)])


def sweep(
    recipes: Recipes,
    seeds: Seeds,
    vary: VaryList = [],  # noqa: B006 - typer reads the default
    orders: OrdersList = [],  # noqa: B006 - typer reads the default
    settings: Set = [],  # noqa: B006 - typer reads the default
    experiments: SweepFolder = None,
    jobs: TrainingJobs = None,
    gpus: Gpus = None,
    cluster: ClusterFile = None,
    dry_run: PrintCommands = False,
    control: Control = None,
    form: Format = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Run recipes, or variations of one, over several seeds in parallel, and compare them.

    It ends with mean and spread, a paired test of every arm against the control, corrected for the
    number of arms, a page, and all scores as CSV. The same command goes on where it stopped.
    """
    from muhdi.recipe.variations import read_varied
    from muhdi.report.sweep import SweepReport, check_comparable, control_arm
    from muhdi.report.unlike import unlike
    from muhdi.workflows.sweep import sweep as run_sweep
    from muhdi.workflows.sweep import sweep_commands
    from muhdi.workflows.sweeps.plan import Asked, folder_of

    check_format(form)
    wanted = read_orders(orders)
    varied = read_varied(vary)
    files = {recipe: recipe for recipe in recipes}
    asked = Asked(files, seeds, settings, trust_code, wanted, varied).recipes()
    check_comparable(asked)
    if dry_run:
        unused = {"jobs": jobs, "gpus": gpus, "cluster": cluster, "control": control}
        _refuse_unused(unused | {"format": form})
        commands = sweep_commands(
            recipes,
            seeds,
            settings,
            experiments,
            vary=varied,
            orders=wanted,
            trust_code=trust_code,
        )
        _print_commands(*commands)
        return
    control_arm(asked, control)
    folder = folder_of(experiments, asked)
    with live_board(quiet=quiet) as board:
        arms = run_sweep(
            recipes,
            seeds,
            settings,
            folder,
            jobs,
            board.print,
            vary=varied,
            orders=wanted,
            gpus=gpus,
            cluster=cluster,
            trust_code=trust_code,
            on_board=board.show,
        )
    report = SweepReport(_read_runs(arms, folder), control)
    shown = [report.main] if form is None else report.statistics
    print_tables([table for each in shown for table in report.tables(each)], form)
    if form is None:
        for sentence in report.readings():
            console().print(sentence, markup=False)
    print_notes(unlike(report.runs), err=form is not None)
    page, scores = report.write(folder)
    typer.echo(f"All scores: {one_line(scores)}", err=form is not None)
    print_page(page, form)


def _read_runs(arms: Mapping[str, Sequence[Results]], experiments: Path) -> list[RunData]:
    from muhdi.report.run_files import read_run

    runs = []
    for results in arms.values():
        runs += [read_run(experiments / "snapshots" / one.name) for one in results]
    return runs


def _print_commands(sources: Sequence[str], arms: Sequence[str]) -> None:
    """One command a line; what a person should know of them goes to standard error."""
    for command in (*sources, *arms):
        typer.echo(one_line(command))
    if len(sources) == 1:
        typer.echo("The first one trains a source, which the others start from.", err=True)
    elif sources:
        typer.echo(
            f"The first {len(sources)} train sources, which the others start from.", err=True
        )


def _refuse_unused(options: Mapping[str, object]) -> None:
    """``--dry-run`` prints commands alone."""
    for name, value in options.items():
        if value is not None:
            raise RecipeError(f"--{name}: --dry-run prints the commands alone; leave one out")


def _refuse_both(*, resume: bool, overwrite: bool) -> None:
    """``--resume`` and ``--overwrite`` contradict each other."""
    if resume and overwrite:
        raise RecipeError(
            "--resume and --overwrite exclude each other: continue the run, or start it again"
        )
