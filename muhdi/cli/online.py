"""`muhdi adapt MODEL --online STREAM`: a network that adapts while it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn, Optional

import typer

from muhdi.cli.complete import recipe_names
from muhdi.cli.output import console, one_line, print_notes, print_tables, progress
from muhdi.errors import Interrupted, RecipeError

if TYPE_CHECKING:
    from muhdi.recipe.schema import Recipe
    from muhdi.workflows.adapt_online import OnlineRun
    from muhdi.workflows.online_rounds import OnlineRounds

Stream = Annotated[
    Optional[str],
    typer.Option(
        "--online",
        help="Adapt while predicting: a folder in the order of its names, a film, or a .txt with an"
        " image a line; or a recipe, whose domains come in rounds and are scored.",
        metavar="STREAM",
        autocompletion=recipe_names,
    ),
]
Methods = Annotated[
    list[str],
    typer.Option(
        "--method",
        help="How it adapts online: bn (the default), tent, cotta, sar, none, or package:Class."
        " Repeatable with a recipe.",
        metavar="METHOD",
    ),
]
Rounds = Annotated[
    Optional[int],
    typer.Option("--rounds", min=1, help="With --online RECIPE: short for --set online.rounds=N."),
]
LearningRates = Annotated[
    Optional[str],
    typer.Option(
        "--learning-rates",
        help="With --online RECIPE: every method that has one runs with each of these,"
        " 7.5e-6,1e-4 for example.",
        metavar="RATES",
    ),
]
Adapted = Annotated[
    Optional[Path],
    typer.Option(
        "--output",
        "-o",
        help="With --online: folder for the adapted network and the predictions. By default"
        " adapted.",
    ),
]
EveryFrame = Annotated[
    Optional[int],
    typer.Option("--every", min=1, help="With --online: take every n-th frame of a film."),
]
OnlineDevice = Annotated[
    Optional[str], typer.Option("--device", help="With --online: auto, cpu, cuda or cuda:1.")
]


class OnlineOptions(NamedTuple):
    """What the command line says of adapting online; None and empty where it says nothing."""

    method: list[str]
    rounds: int | None
    learning_rates: str | None
    output: Path | None
    size: tuple[int, int] | None
    every: int | None
    bands: list[str]
    device: str | None
    head: str | None
    statistics: str | None
    domain: str | None
    weights: str | None

    def use(self) -> dict[str, Any]:
        """How the network is used before anything adapts."""
        names = ("head", "statistics", "domain", "weights")
        return {name: getattr(self, name) for name in names}

    def given(self) -> list[str]:
        """The options that the command line names."""
        found = [name for name, value in self._asdict().items() if value not in (None, [])]
        return [f"--{name.replace('_', '-')}" for name in found]


def adapt_online(
    model: Path,
    stream: str,
    options: OnlineOptions,
    settings: list[str],
    *,
    overwrite: bool,
    quiet: bool,
    trust_code: bool,
) -> None:
    """Adapt to a stream, or in the rounds of a recipe."""
    from muhdi.recipe.load import shipped_recipes

    output = options.output or Path("adapted")
    is_file = stream.endswith((".yml", ".yaml"))
    common = {"overwrite": overwrite, "trust_code": trust_code}
    try:
        if is_file or (stream in shipped_recipes() and not Path(stream).exists()):
            recipe = _recipe(stream, options, settings, trust_code=trust_code)
            _in_rounds(model, recipe, output, options, common, quiet=quiet)
        else:
            _to_stream(model, stream, output, options, settings, common, quiet=quiet)
    except Interrupted as stop:
        _stopped(stop, output)


def _stopped(stop: Interrupted, output: Path) -> NoReturn:
    typer.echo(f"Stopped; what was adapted so far is in {one_line(output)}", err=True)
    raise typer.Exit(128 + stop.signum)


def _to_stream(
    model: Path,
    stream: str,
    output: Path,
    options: OnlineOptions,
    settings: list[str],
    common: dict[str, Any],
    *,
    quiet: bool,
) -> None:
    from muhdi.recipe.online import USUAL, read_options
    from muhdi.workflows.adapt_online import adapt_online as run_adapt

    for name in ("--rounds", "--learning-rates"):
        if name in options.given():
            raise RecipeError(f"{name}: is for a recipe, but --online is {stream}; leave it out")
    if len(options.method) > 1:
        raise RecipeError("--method: a stream has one; to compare several, give --online a recipe")
    with progress("adapting", quiet=quiet) as bar:
        run = run_adapt(
            model,
            stream,
            output,
            method=options.method[0] if options.method else USUAL,
            options=read_options(settings),
            size=options.size,
            every=options.every or 1,
            bands=options.bands,
            device=options.device or "auto",
            on_progress=bar.update,
            on_remark=bar.print,
            **common,
            **options.use(),
        )
    _print_run(run, stream, output)


def _print_run(run: OnlineRun, stream: str, output: Path) -> None:
    print_notes(run.notes, err=True)
    out = console()
    if run.images:
        median, high = (run.latency[name] for name in ("median_ms", "p95_ms"))
        out.print(
            f"{run.images} images predicted and adapted to by {run.method.shown_name}, in {output};"
            f" {median:.0f} ms an image (95 %: {high:.0f} ms), {run.resets} resets",
            soft_wrap=True,
            markup=False,
        )
        out.print(f"Adapted network: {run.network}", soft_wrap=True, markup=False)
    for failure in run.failures:
        typer.echo(f"failed: {one_line(failure)}", err=True)
    if run.failures:
        typer.echo(f"{len(run.failures)} files of {one_line(stream)} failed", err=True)
        raise typer.Exit(1)


def _recipe(
    stream: str, options: OnlineOptions, settings: list[str], *, trust_code: bool
) -> Recipe:
    """The recipe, with what is short for its keys."""
    from muhdi.recipe.load import load_recipe

    for name in ("--size", "--every", "--bands"):
        if name in options.given():
            raise RecipeError(f"{name}: with --online {stream} the recipe says it; leave it out")
    short = []
    if options.rounds is not None:
        short.append(f"online.rounds={options.rounds}")
    if options.learning_rates is not None:
        short.append(f"online.learning_rates={_rates(options.learning_rates)}")
    if options.method:
        methods = [{"class": m} if ":" in m else {"method": m} for m in options.method]
        short.append(f"online.methods={methods}")
    return load_recipe(stream, [*settings, *short], trust_code=trust_code or None)


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(
            f"--learning-rates {text!r}: must be numbers with commas between them, such as"
            " 7.5e-6,1e-4"
        ) from None


def _in_rounds(
    model: Path,
    recipe: Recipe,
    output: Path,
    options: OnlineOptions,
    common: dict[str, Any],
    *,
    quiet: bool,
) -> None:
    from muhdi.workflows.online_rounds import adapt_in_rounds

    with progress("adapting", quiet=quiet) as bar:
        found = adapt_in_rounds(
            model,
            recipe,
            output,
            device=options.device,
            on_progress=bar.update,
            on_remark=bar.print,
            **common,
            **options.use(),
        )
    _print_rounds(found, output)


def _print_rounds(found: OnlineRounds, output: Path) -> None:
    from muhdi.report.online_tables import methods_table, rounds_table
    from muhdi.workflows.adapt_online import FACTS

    print_notes(found.notes, err=True)
    domains = list(found.images)
    tables = [methods_table(found.arms, domains)]
    if len(found.arms) <= 2:
        tables += [rounds_table(name, arm, domains) for name, arm in found.arms.items()]
    print_tables(tables)
    typer.echo(f"Every round and class, latency and resets: {one_line(output / FACTS)}")
