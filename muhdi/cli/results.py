"""Commands that show what runs achieved: evaluate, report, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.options import (
    Experiments,
    Format,
    Quiet,
    Scales,
    Set,
    TrustCode,
    Weights,
    read_scales,
)
from muhdi.cli.output import (
    check_format,
    console,
    one_line,
    print_notes,
    print_page,
    print_scores,
    print_tables,
    progress,
)
from muhdi.errors import RecipeError

Scored = Annotated[
    Path,
    typer.Argument(
        help="A run directory (its newest network), a network file, or a recipe with its run."
    ),
]
RecipeOption = Annotated[
    Optional[str],
    typer.Option("--recipe", help="Evaluate on the domains of this recipe, not the run's own."),
]
RunSeed = Annotated[Optional[int], typer.Option("--seed", min=0, help="Seed of the recipe's run.")]
StatisticsList = Annotated[
    list[str],
    typer.Option(
        "--statistics",
        help="running, domain, image, blend or pooled. Repeatable. By default the recipe's.",
    ),
]
ScoredHead = Annotated[str, typer.Option("--head", help="The head that is scored.")]
Refresh = Annotated[
    bool,
    typer.Option(
        "--refresh", help="Measure the domains' statistics again on their training images."
    ),
]
Window = Annotated[
    Optional[tuple[int, int]],
    typer.Option(
        "--window",
        help="Slide a window of this width and height over the images. These four options replace"
        " the keys of the recipe's evaluation; --set evaluation.input_size=native keeps the images"
        " at their own size.",
    ),
]
Overlap = Annotated[
    Optional[float],
    typer.Option("--overlap", help="Overlap of neighbouring windows, as a fraction."),
]
Flip = Annotated[
    Optional[bool],
    typer.Option(
        "--flip/--no-flip", help="Average the probabilities of the image and its mirror image."
    ),
]
ScoresJson = Annotated[
    Optional[Path], typer.Option("--json", help="Write the scores, also per class, to this file.")
]
ScoresFile = Annotated[
    Optional[Path],
    typer.Option(
        "--scores",
        help="Write every score to this .csv or .json file, one a row: run, seed, step, domain,"
        " statistics, weights (model, ema or teacher), views (what was averaged), class ('mean' for"
        " the mIoU), iou in percent, iterations (of a score within a step). Rows without a domain"
        " are the measures of a sequence: average, forgetting, transfer.",
    ),
]
RunsFolder = Annotated[Path, typer.Argument(help="Folder of run directories.", show_default=True)]
RunArgument = Annotated[Path, typer.Argument(help="A run directory.")]
ReportFile = Annotated[
    Optional[Path],
    typer.Option("--output", "-o", help="The file. By default report.html in the run directory."),
]
RunsArgument = Annotated[
    list[Path], typer.Argument(help="Run directories of one benchmark.", metavar="RUNS...")
]
GroupBy = Annotated[
    str,
    typer.Option(
        "--group-by",
        help="arm: runs whose names differ only in _seedN are one arm. run: every run is an arm.",
    ),
]
Against = Annotated[
    Optional[str],
    typer.Option("--against", help="The arm to compare with. By default the first."),
]
ComparisonFile = Annotated[Path, typer.Option("--output", "-o", help="The page to write.")]


def evaluate(
    network: Scored,
    recipe: RecipeOption = None,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: RunSeed = None,
    experiments: Experiments = None,
    statistics: StatisticsList = [],  # noqa: B006 - typer reads the default
    head: ScoredHead = "agnostic",
    weights: Weights = None,
    refresh: Refresh = False,
    window: Window = None,
    overlap: Overlap = None,
    flip: Flip = None,
    scales: Scales = None,
    output: ScoresJson = None,
    scores: ScoresFile = None,
    form: Format = None,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Score networks on every domain of their recipe, for each choice of statistics.

    For a recipe, its section 'test' says what is scored: the last network of its run, the best of
    its snapshots, files, or an ensemble of files.
    """
    from muhdi.files import check_target, write_json
    from muhdi.report.tidy import check_scores_file, write_scores
    from muhdi.workflows.evaluate import evaluate as run_evaluate
    from muhdi.workflows.evaluate import read_arguments

    check_format(form)
    if output is not None:
        check_target(output)
    if scores is not None:
        check_scores_file(scores)
    changes = [*settings, *_view_settings(window, overlap, flip, scales)]
    what, domains = read_arguments(network, recipe, changes, seed, trust_code=trust_code)
    if overlap is not None:
        _check_windows(domains or what)
    with progress("evaluating", quiet=quiet) as bar:
        results = run_evaluate(
            what,
            domains,
            statistics=statistics,
            head=head,
            weights=weights,
            refresh=refresh,
            experiments=experiments,
            trust_code=trust_code,
            on_progress=bar.update,
        )
    print_scores(results, form, every=bool(statistics))
    if output is not None:
        write_json(output, results.to_json(sequence=False))
    if scores is not None:
        write_scores(scores, [results], sequence=False)


def _view_settings(
    window: tuple[int, int] | None, overlap: float | None, flip: bool | None, scales: str | None
) -> list[str]:
    """Changes to a recipe that say the same as the options."""
    values = {
        "window": None if window is None else list(window),
        "overlap": overlap,
        "flip": None if flip is None else str(flip).lower(),
        "scales": None if scales is None else read_scales(scales),
    }
    return [f"evaluation.{key}={value}" for key, value in values.items() if value is not None]


def _check_windows(recipe: object) -> None:
    """Refuse an overlap where a recipe, if it is one, has no windows."""
    from muhdi.recipe.schema import Recipe

    if isinstance(recipe, Recipe) and recipe.evaluation.window is None:
        raise RecipeError("--overlap: is that of windows; give --window, too, or leave it out")


def runs(folder: RunsFolder = Path("experiments/snapshots"), form: Format = None) -> None:
    """List runs: how far they are, their average target mIoU, and their pages."""
    from muhdi.report.run_list import list_runs, runs_table

    check_format(form)
    found = list_runs(folder)
    print_tables([runs_table(found, folder)], form)
    print_notes([run.problem for run in found if run.problem], err=form is not None)
    finished = sum(run.state == "finished" for run in found)
    typer.echo(f"{finished} of {len(found)} runs are finished.", err=form is not None)


def report(
    run: RunArgument,
    output: ReportFile = None,
    scores: ScoresFile = None,
    form: Format = None,
    trust_code: TrustCode = False,
) -> None:
    """Write the report of a run, finished or not.

    It is one file that opens in any browser, offline too. With --format the result matrices are
    printed as well.
    """
    from muhdi.report.label_free import sentence, unlabelled
    from muhdi.report.run_files import read_run
    from muhdi.report.tables import matrix_table
    from muhdi.report.tidy import check_scores_file, write_scores
    from muhdi.workflows.report import report as write_report

    check_format(form)
    if scores is not None:
        check_scores_file(scores)
    path = write_report(run, output, trust_code=trust_code)
    results = read_run(run).results
    if form is not None:
        print_tables([matrix_table(results, name) for name in results.statistics], form)
    for domain in unlabelled(results, results.main_statistics):
        line = sentence(results, results.main_statistics, domain)
        typer.echo(one_line(line), err=form is not None)
    if scores is not None:
        write_scores(scores, [results])
    print_page(path, form)


def compare(
    runs: RunsArgument,
    group_by: GroupBy = "arm",
    against: Against = None,
    output: ComparisonFile = Path("comparison.html"),
    scores: ScoresFile = None,
    form: Format = None,
) -> None:
    """Compare runs: mean and spread over seeds, and whether a difference is more than noise.

    It prints tables, and writes a page with charts and predictions that opens in any browser.
    """
    from muhdi.files import check_target
    from muhdi.report.compare import (
        GROUP_BY,
        each_alone,
        group,
        readings,
        reference_arm,
        tables,
        with_one,
        write_comparison,
    )
    from muhdi.report.run_files import read_run, shared_statistics
    from muhdi.report.tidy import check_scores_file, write_scores
    from muhdi.report.unlike import unlike

    if group_by not in GROUP_BY:
        raise RecipeError(f"--group-by {group_by}: must be one of {', '.join(GROUP_BY)}")
    check_format(form)
    check_target(output)
    if scores is not None:
        check_scores_file(scores)
    found = [read_run(run) for run in runs]
    arms = group(found, group_by)
    controls = with_one(arms, reference_arm(arms, against))
    shared = shared_statistics(found)
    main = shared[0]
    shown = [main] if form is None else shared
    for_terminal = []
    for statistics in shown:
        for_terminal += tables(arms, controls, statistics)
    print_tables(for_terminal, form)
    if form is None:
        for sentence in readings(arms, controls, main):
            console().print(sentence, markup=False)
    print_notes(unlike(found), err=form is not None)
    if scores is not None:
        write_scores(scores, [run.results for run in found])
    page = write_comparison(output, arms, lambda each: each_alone(arms, controls, each))
    print_page(page, form)
