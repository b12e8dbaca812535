"""The command line: it parses, calls and prints.

Slow imports are inside the commands, so that ``muhdi --help`` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from muhdi.cli.demo import demo
from muhdi.cli.info import info
from muhdi.cli.labels import label_sample
from muhdi.cli.networks import convert, export, predict
from muhdi.cli.recipes import check, inspect, new, prepare, recipes
from muhdi.cli.results import compare, evaluate, report, runs
from muhdi.cli.run import run
from muhdi.cli.training import adapt, sweep, train

__all__ = ["COMMANDS", "app", "command_name", "main"]

RUN = "experiments/snapshots/mine"
COMMANDS: dict[str, dict[Callable[..., None], str]] = {
    "Data and recipes": {
        recipes: "muhdi recipes scenes",
        new: "muhdi new simulator my_city my_city_at_night -o mine.yml",
        inspect: "muhdi inspect mine.yml",
        check: "muhdi check mine.yml --json check.json",
        info: "muhdi info mine.yml --measure",
        prepare: "muhdi prepare gta_sequence_muhdi --set runtime.cache=FOLDER",
    },
    "Training": {
        demo: "muhdi demo",
        train: "muhdi train mine.yml --set every_step.retention=distill --seed 1",
        adapt: f"muhdi adapt {RUN} --images my_village",
        label_sample: f"muhdi label-sample {RUN} --count 20 -o to_label",
        sweep: "muhdi sweep scenes_none scenes_selftrain_muhdi --seed 1 --seed 2",
    },
    "Results": {
        runs: "muhdi runs",
        evaluate: f"muhdi evaluate {RUN} --statistics domain --refresh",
        report: f"muhdi report {RUN}",
        compare: f"muhdi compare {RUN}_seed1 {RUN}_seed2 control_seed1 control_seed2",
    },
    "Trained networks": {
        predict: f"muhdi predict {RUN} 'photos/**/*.jpg' -o predictions --statistics image",
        export: f"muhdi export {RUN} network.onnx --domain my_city",
        convert: f"muhdi convert {RUN} network.pth",
    },
}
"""Commands by group, each with an example."""

HELP = {"help_option_names": ["--help", "-h"]}

app = typer.Typer(name="muhdi", pretty_exceptions_enable=False, context_settings=HELP)
Version = Annotated[bool, typer.Option("--version", help="Print the version.")]


@app.callback(invoke_without_command=True)
def muhdi(context: typer.Context, version: Version = False) -> None:
    """Continual unsupervised domain adaptation for semantic segmentation."""
    if version:
        from muhdi import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def command_name(function: Callable[..., None]) -> str:
    """What a command is called on the command line."""
    return function.__name__.replace("_", "-")


for panel, commands in COMMANDS.items():
    for command, example in commands.items():
        added = app.command(
            rich_help_panel=panel, epilog=f"Example: {example}", context_settings=HELP
        )
        added(command)


def main() -> None:
    """Entry point of ``muhdi``."""
    run(app)
