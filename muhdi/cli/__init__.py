"""The command line: it parses, calls and prints.

What is slow to import is imported inside the commands.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from muhdi.cli.common import run
from muhdi.cli.deploy import adapt, export, predict
from muhdi.cli.networks import convert, evaluate
from muhdi.cli.owndata import inspect, new
from muhdi.cli.recipes import check, prepare, recipes
from muhdi.cli.report import compare, report
from muhdi.cli.training import demo, sweep, train

__all__ = ["app", "main"]

app = typer.Typer(
    name="muhdi",
    help="Continual unsupervised domain adaptation for semantic segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
RUN = "experiments/snapshots/mine"
COMMANDS: dict[str, dict[Callable[..., None], str]] = {
    "Data and recipes": {
        recipes: "muhdi recipes scenes",
        new: "muhdi new simulator my_city my_city_at_night -o mine.yml",
        inspect: "muhdi inspect mine.yml",
        check: "muhdi check mine.yml --json check.json",
        prepare: "muhdi prepare gta_sequence_muhdi --set cache=FOLDER",
    },
    "Training": {
        demo: "muhdi demo",
        train: "muhdi train mine.yml --set every_step.retention=distill --seed 1",
        adapt: f"muhdi adapt {RUN} --images my_village",
        sweep: "muhdi sweep scenes_none scenes_selftrain_muhdi --seed 1 --seed 2",
    },
    "Results": {
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
for panel, commands in COMMANDS.items():
    for command, example in commands.items():
        app.command(rich_help_panel=panel, epilog=f"Example: {example}")(command)


def main() -> None:
    """Entry point of ``muhdi``."""
    run(app)
