"""The command line: it parses, calls and prints. What is slow to import is imported inside the commands."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from muhdi.errors import Interrupted, MuhdiError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from muhdi.config import Recipe
    from muhdi.evaluation.results import Results

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
    typer.Option(
        "--set", help="Change a key of the recipe: every_step.iterations=100. Repeatable.", metavar="KEY=VALUE"
    ),
]
Seed = Annotated[
    Optional[int], typer.Option("--seed", min=0, help="Replace the recipe's seed; the run is named after it.")
]
Jobs = Annotated[Optional[int], typer.Option("--jobs", min=1, help="Processes at a time; else one per core.")]
Experiments = Annotated[
    Optional[Path], typer.Option("--experiments", help="Folder of snapshots/ and logs/; else where the recipe says.")
]


@app.command()
def train(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where the run exists.")] = False,
) -> None:
    """Train a whole sequence, and evaluate every domain after every step."""
    from muhdi.recipe import load_recipe

    train_and_print(load_recipe(recipe, settings, seed), experiments, resume=resume, overwrite=overwrite)


def train_and_print(recipe: Recipe, experiments: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Run a recipe, and print its results."""
    if resume and overwrite:
        raise MuhdiError("--resume and --overwrite exclude each other: go on with the run, or start it anew")
    from muhdi.report.tables import matrix_table, summary_line
    from muhdi.training.rundir import RunDirectory
    from muhdi.training.sequence import run_sequence

    results = run_sequence(recipe, experiments, resume=resume, overwrite=overwrite)
    console = _console()
    for kind in results.kinds():
        console.print(matrix_table(results, kind))
        console.print(summary_line(results, kind), soft_wrap=True)
    console.print(f"Written to {RunDirectory.of(recipe, experiments).folder}", soft_wrap=True)


@app.command()
def recipes(name: Annotated[Optional[str], typer.Argument(help="Print this recipe in full.")] = None) -> None:
    """List the shipped recipes, or print one with every default written out."""
    from rich.table import Table

    from muhdi.recipe import load_recipe, save_recipe, shipped_recipes

    if name is not None:
        typer.echo(save_recipe(load_recipe(name)), nl=False)
        return
    table = Table("recipe", "what it does", box=None)
    for known in shipped_recipes():
        table.add_row(known, load_recipe(known).description)
    _console().print(table)


@app.command()
def prepare(
    recipe: RecipeArgument,
    settings: Set = [],  # noqa: B006 - typer reads the default
    jobs: Jobs = None,
) -> None:
    """Decode and resize every image of a recipe into its cache, before training; what is there already stays."""
    from rich.progress import Progress

    from muhdi.recipe import load_recipe
    from muhdi.training.prepare import prepare as run_prepare

    console = _console()
    loaded = load_recipe(recipe, settings)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("decoding", total=None)
        count = run_prepare(loaded, jobs, lambda done, total: progress.update(task, completed=done, total=total))
    console.print(f"{count} samples are in {loaded.cache}", soft_wrap=True)


@app.command()
def evaluate(
    network: Annotated[
        Path, typer.Argument(help="A run directory (its newest network), a network file, or a recipe and its run.")
    ],
    recipe: Annotated[
        Optional[str], typer.Option("--recipe", help="Domains of this recipe; else the run's own.")
    ] = None,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Annotated[Optional[int], typer.Option("--seed", min=0, help="Of the recipe's run.")] = None,
    experiments: Experiments = None,
    statistics: Annotated[list[str], typer.Option("--statistics", help="running, domain or image. Repeatable.")] = [],  # noqa: B006 - typer reads the default
    head: Annotated[str, typer.Option("--head", help="The head that is scored.")] = "agnostic",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Measure the domains' statistics anew from their training images.")
    ] = False,
    output: Annotated[
        Optional[Path], typer.Option("--json", help="Write the scores, per class too, to this file.")
    ] = None,
) -> None:
    """Score networks on every domain of their recipe, under each kind of normalisation statistics.

    Of a recipe, its part ``test`` says what is scored: the run's last network, the best of its snapshots, given
    files, or an ensemble of them.
    """
    from muhdi.config import KINDS
    from muhdi.files import check_target, write_json
    from muhdi.training.score import evaluate_network

    for kind in statistics:
        if kind not in KINDS:
            raise MuhdiError(f"--statistics {kind}: must be one of {', '.join(KINDS)}{nearest(kind, list(KINDS))}")
    if output is not None:
        check_target(output)
    results, notes = evaluate_network(
        network, recipe=recipe, settings=settings, kinds=statistics, head=head, refresh=refresh,
        experiments=experiments, seed=seed,
    )  # fmt: skip
    print_scores(results, notes)
    if output is not None:
        write_json(output, results.to_json(sequence=False))


def print_scores(results: Results, notes: list[str]) -> None:
    """Scores of every network, and per class those of the best one."""
    from muhdi.evaluation.results import best_row
    from muhdi.report.tables import classes_table, matrix_table

    console = _console()
    for kind in results.kinds():
        console.print(matrix_table(results, kind, "network"))
        console.print(classes_table(results, kind, best_row(results, kind)))
    for note in notes:
        console.print(note, soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A run directory, or a network's or discriminator's file.")],
    target: Annotated[Path, typer.Argument(help="Ends in .pth: the reference's layout; in .safetensors: ours.")],
    classes: Annotated[Optional[str], typer.Option("--classes", help="Class set of a reference's network.")] = None,
    image_size: Annotated[
        tuple[int, int], typer.Option("--image-size", min=1, help="Width and height it was trained at.")
    ] = (640, 320),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Convert a network between our layout and the reference's; every weight keeps its bits."""
    from muhdi.training.convert import convert as run_convert

    for path in run_convert(source, target, classes=classes, image_size=image_size, overwrite=overwrite):
        typer.echo(f"Written to {_one_line(path)}")
    if target.suffix != ".safetensors":
        typer.echo("This layout has no place for the domains' statistics; keep the run for them.")


@app.command()
def sweep(
    recipes: Annotated[list[str], typer.Argument(help="Recipes to compare: files or names.")],
    seeds: Annotated[list[int], typer.Option("--seed", min=0, help="Repeatable: every recipe runs with every seed.")],
    settings: Set = [],  # noqa: B006 - typer reads the default
    experiments: Annotated[Path, typer.Option("--experiments", help="Folder of snapshots/ and logs/.")] = Path(
        "experiments"
    ),
    jobs: Jobs = None,
) -> None:
    """Run several recipes over several seeds in parallel, and compare them: mean and spread."""
    from muhdi.report.tables import arms_table
    from muhdi.training.sweep import sweep as run_sweep

    arms = run_sweep(recipes, seeds, settings, experiments, jobs, typer.echo)
    console = _console()
    for kind in next(iter(arms.values()))[0].kinds():
        console.print(arms_table(arms, kind))


DEMO = {
    "scenes_none": "none / none",
    "scenes_selftrain": "selftrain",
    "scenes_selftrain_distill": "selftrain + distill",
    "scenes_selftrain_muhdi": "selftrain + muhdi",
}


@app.command()
def demo(
    seeds: Annotated[list[int], typer.Option("--seed", min=0, help="Of drawing and training. Repeatable.")] = [41],  # noqa: B006
    settings: Set = [],  # noqa: B006 - typer reads the default
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs and the picture.")] = Path("demo"),
    jobs: Jobs = None,
) -> None:
    """Built-in scenes, simulator -> city -> dust -> night: four arms, their results, one picture. No data needed."""
    from muhdi.report.plots import predictions_figure
    from muhdi.report.reading import reading
    from muhdi.report.tables import arms_table, matrix_table
    from muhdi.taxonomy import CLASS_SETS
    from muhdi.training.sweep import sweep as run_sweep

    console = _console()
    runs = run_sweep(list(DEMO), seeds, settings, output, jobs, typer.echo)
    arms = {title: runs[recipe] for recipe, title in DEMO.items()}
    for title, results in arms.items():
        console.print(f"\n{title}")
        for kind in results[0].kinds():
            console.print(matrix_table(results[0], kind))
    kinds = sorted(arms["none / none"][0].kinds(), key=("domain", "running", "image").index)
    for kind in kinds:
        console.print(arms_table(arms, kind))
    controls = {"selftrain": "sequential self-training", "selftrain + distill": "single-head distillation",
                "none / none": "no adaptation at all"}  # fmt: skip
    console.print(reading(arms, kinds[0], "selftrain + muhdi", controls), soft_wrap=True)
    picture = output / "predictions.png"
    samples = {title: output / "snapshots" / results[0].name / "samples" for title, results in arms.items()}
    predictions_figure(picture, samples, {t: r[0] for t, r in arms.items()}, CLASS_SETS["urban7"], kinds[0])
    console.print(f"Predictions of every arm on every domain: {picture}", soft_wrap=True)


def _one_line(message: object) -> str:
    """A message that fits on one line and into any terminal, whatever is in the names that it quotes."""
    line = "\\n".join(str(message).splitlines())
    return line.encode("utf-8", "backslashreplace").decode()


def _called() -> list[str]:
    """What the user called: ``muhdi``, or one of the scripts."""
    return ["python", sys.argv[0]] if Path(sys.argv[0]).name in ("train.py", "test.py") else ["muhdi"]


def _console() -> Console:
    """Where tables go; without a terminal they are wide enough to be read in a file."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(140, console.width))


def main() -> None:
    """Entry point of ``muhdi``."""
    run(app)


def run(commands: typer.Typer) -> None:
    """Run commands: a mistake of the user's is one line and status 2, a signal one line and 128 + its number."""
    try:
        commands()
    except MuhdiError as error:
        typer.echo(f"error: {_one_line(error)}", err=True)
        sys.exit(2)
    except OSError as error:  # a path that the system itself refuses: too long, not allowed, a disk that is full
        reason = (error.strerror or str(error)).lower()
        typer.echo(f"error: {_one_line(error.filename or 'a file')}: {_one_line(reason)}", err=True)
        sys.exit(2)
    except Interrupted as stop:
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        if words[:1] == ["train"] or _called() != ["muhdi"]:  # a sweep goes on by itself
            words.append("--resume")
        command = shlex.join(_called() + words)
        typer.echo(f"stopped; everything is saved. To go on: {command}", err=True)
        sys.exit(128 + stop.signum)
