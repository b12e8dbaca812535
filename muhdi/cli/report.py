"""Commands that show what runs achieved: report, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.common import FormatOption, TrustCode, check_format, one_line, print_tables
from muhdi.errors import MuhdiError


def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="File; else report.html in the run.")
    ] = None,
    form: FormatOption = None,
    trust_code: TrustCode = False,
) -> None:
    """Write the report of a run, finished or not.

    One file that opens in any browser, without a network.

    With --format its result matrices are printed too.
    """
    from muhdi.report.run_files import read_run
    from muhdi.report.tables import matrix_table
    from muhdi.workflows.report import report as write_report

    check_format(form)
    path = write_report(run, output, trust_code=trust_code)
    if form is not None:
        results = read_run(run).results
        print_tables([matrix_table(results, kind) for kind in results.kinds()], form)
    typer.echo(f"Written to {one_line(path)}", err=form is not None)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories of one benchmark.")],
    group_by: Annotated[
        str,
        typer.Option(
            "--group-by", help="arm: runs called alike but for _seedN are one; run: each by itself."
        ),
    ] = "arm",
    against: Annotated[
        Optional[str],
        typer.Option(
            "--against", help="The arm that the others are compared with; else the first."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "comparison.html"
    ),
    form: FormatOption = None,
) -> None:
    """Compare runs: mean and spread over seeds, and whether a difference is more than noise.

    Tables go to the terminal, and with charts and predictions into one page that opens in any
    browser.
    """
    from muhdi.files import check_target
    from muhdi.report.compare import GROUP_BY, group, reference_arm, tables, write_comparison
    from muhdi.report.run_files import read_run, shared_kinds

    if group_by not in GROUP_BY:
        raise MuhdiError(f"--group-by {group_by}: must be one of {', '.join(GROUP_BY)}")
    check_format(form)
    check_target(output)
    found = [read_run(run) for run in runs]
    arms = group(found, group_by)
    reference = reference_arm(arms, against)
    print_tables(
        [table for kind in shared_kinds(found) for table in tables(arms, reference, kind)], form
    )
    path = write_comparison(output, arms, reference)
    typer.echo(f"Written to {one_line(path)}", err=form is not None)
