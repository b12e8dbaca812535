"""The command that picks the images of a target that are worth a label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.options import OverwriteFiles, Quiet, TrustCode
from muhdi.cli.output import one_line, progress

Run = Annotated[Path, typer.Argument(help="A run directory; its newest network looks.")]
Count = Annotated[int, typer.Option("--count", min=1, help="How many images to pick.")]
TargetName = Annotated[
    Optional[str],
    typer.Option("--domain", help="Which target. By default that of the last step."),
]
Picked = Annotated[Path, typer.Option("--output", "-o", help="Folder for list.txt and images/.")]


def label_sample(
    run: Run,
    output: Picked,
    count: Count = 20,
    domain: TargetName = None,
    overwrite: OverwriteFiles = False,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Pick the training images of a target that are worth a label.

    They are spread over what the domain shows, and among images that look alike the one counts of
    which the network is least sure. 'labelled' of a step takes the list once the labels are there.
    """
    from muhdi.workflows.label_sample import label_sample as run_label_sample

    with progress("looking at images", quiet=quiet) as bar:
        picked = run_label_sample(
            run,
            output,
            count=count,
            domain=domain,
            overwrite=overwrite,
            trust_code=trust_code,
            on_progress=bar.update,
        )
    where = f"{picked.total} training images of {picked.domain} are in {picked.images}"
    typer.echo(one_line(f"{len(picked.names)} of {where}; {picked.advice}"))
    step = f"{picked.key}.labelled={picked.list.absolute()}"
    typer.echo(one_line(f"Then train with them: muhdi train RECIPE --set {step}"))
