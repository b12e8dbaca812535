"""The command line: it parses, calls and prints. What is slow to import is imported inside the commands."""

from __future__ import annotations

import typer

from muhdi.cli.common import run
from muhdi.cli.deploy import adapt, export, predict
from muhdi.cli.networks import convert, evaluate
from muhdi.cli.owndata import inspect, new
from muhdi.cli.recipes import prepare, recipes
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
for command in (
    demo,
    recipes,
    new,
    inspect,
    prepare,
    train,
    adapt,
    sweep,
    evaluate,
    report,
    compare,
    predict,
    export,
    convert,
):
    app.command()(command)


def main() -> None:
    """Entry point of ``muhdi``."""
    run(app)
