"""What all commands share: options, where output goes, and how errors end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from muhdi.errors import Interrupted, MuhdiError, PeerFailed, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from muhdi.evaluation.results import Results
    from muhdi.report.result_table import ResultTable

RecipeArgument = Annotated[
    str, typer.Argument(help="A YAML file, or the name of a shipped recipe (muhdi recipes).")
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Change a key of the recipe: every_step.iterations=100. Repeatable.",
        metavar="KEY=VALUE",
    ),
]
Seed = Annotated[
    Optional[int],
    typer.Option("--seed", min=0, help="Replace the recipe's seed; the run is named after it."),
]
Jobs = Annotated[
    Optional[int], typer.Option("--jobs", min=1, help="Processes at a time; else one per core.")
]
Experiments = Annotated[
    Optional[Path],
    typer.Option(
        "--experiments", help="Folder of snapshots/ and logs/; else where the recipe says."
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Import classes of other packages that a run or a network names."
    ),
]
FormatOption = Annotated[
    Optional[str],
    typer.Option(
        "--format",
        help="Print the tables alone, as markdown, latex, csv or json.",
        metavar="FORMAT",
    ),
]


def console() -> Console:
    """Where tables go; without a terminal they are wide enough to be read in a file."""
    from rich.console import Console

    terminal = Console(highlight=False)
    return (
        terminal
        if terminal.is_terminal
        else Console(highlight=False, width=max(140, terminal.width))
    )


def check_format(form: str | None) -> None:
    """Refuse a ``--format`` that there is not, before anything is computed."""
    from muhdi.report.result_table import FORMATS

    if form is not None and form not in FORMATS:
        raise MuhdiError(
            f"--format {form}: must be one of {', '.join(FORMATS)}{nearest(form, list(FORMATS))}"
        )


def print_tables(tables: Sequence[ResultTable], form: str | None) -> None:
    """Tables as people read them in a terminal, or in a format that can be pasted."""
    from muhdi.report.result_table import FORMATS, render

    chosen = next((known for known in FORMATS if known == form), None)
    if chosen is not None:
        typer.echo(render(tables, chosen), nl=False)
        return
    out = console()
    for table in tables:
        out.print(table.terminal())


def print_run(results: Results, folder: Path) -> None:
    """The results of a run that has just ended, and where its files are."""
    from muhdi.report.tables import matrix_table, summary_line

    out = console()
    for statistics in results.kinds():
        out.print(matrix_table(results, statistics).terminal())
        out.print(summary_line(results, statistics), soft_wrap=True)
    out.print(f"Written to {folder}", soft_wrap=True, markup=False)
    out.print(f"Open {folder / 'report.html'} in a browser", soft_wrap=True, markup=False)


def refuse_both(*, resume: bool, overwrite: bool) -> None:
    """--resume and --overwrite contradict each other."""
    if resume and overwrite:
        raise MuhdiError(
            "--resume and --overwrite exclude each other: continue the run, or start it again"
        )


def one_line(message: object) -> str:
    """A message on one line that any terminal can show, whatever the names that it quotes."""
    line = "\\n".join(str(message).splitlines())
    return line.encode("utf-8", "backslashreplace").decode()


def run(commands: typer.Typer) -> None:
    """Run commands: a user's mistake is one line and status 2, a signal one line and 128 + n."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what libraries say to their developers
    try:
        commands()
    except MuhdiError as error:
        typer.echo(f"error: {one_line(error)}", err=True)
        sys.exit(2)
    except (
        OSError
    ) as error:  # a path that the system itself refuses: too long, not allowed, a disk that is full
        reason = (error.strerror or str(error)).lower()
        typer.echo(f"error: {one_line(error.filename or 'a file')}: {one_line(reason)}", err=True)
        sys.exit(2)
    except Interrupted as stop:
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        if words[:1] in (["train"], ["adapt"]) or _called() != [
            "muhdi"
        ]:  # a sweep goes on by itself
            words.append("--resume")
        command = shlex.join(_called() + words)
        with suppress(OSError):  # the terminal may be closed, which is why the run has stopped
            typer.echo(f"Stopped; progress is saved. Resume with: {command}", err=True)
        sys.exit(128 + stop.signum)
    except PeerFailed:
        sys.exit(0)  # rank zero has the message; its status counts


def _called() -> list[str]:
    """What the user called: ``muhdi``, or one of the scripts."""
    return (
        ["python", sys.argv[0]] if Path(sys.argv[0]).name in ("train.py", "test.py") else ["muhdi"]
    )
