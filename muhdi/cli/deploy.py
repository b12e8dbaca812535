"""Commands that use trained networks: predict, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from muhdi.cli.common import (
    Experiments,
    Seed,
    Set,
    TrustCode,
    console,
    one_line,
    print_run,
    print_tables,
    refuse_both,
)
from muhdi.errors import MuhdiError

Model = Annotated[
    Path, typer.Argument(help="A run directory (its newest network), a network file, or an export.")
]
Head = Annotated[
    Optional[str], typer.Option("--head", help="The head that predicts; else the agnostic one.")
]
Statistics = Annotated[
    Optional[str],
    typer.Option(
        "--statistics", help="running (the default), image, or domain with --domain NAME."
    ),
]
Domain = Annotated[
    Optional[str],
    typer.Option("--domain", help="Normalise with the stored statistics of this domain."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]


def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(help="Files, folders, quoted patterns such as 'a/**/*.jpg', films."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of ids/, colour/, overlay/.")
    ],
    head: Head = None,
    statistics: Statistics = None,
    domain: Domain = None,
    size: Annotated[
        Optional[tuple[int, int]],
        typer.Option(
            "--size",
            help="Width and height at which the network sees an image; else as it was trained.",
        ),
    ] = None,
    window: Annotated[
        bool,
        typer.Option(
            "--window", help="Slide a window of the trained size over the image at its own size."
        ),
    ] = False,
    overlap: Annotated[
        float, typer.Option("--overlap", help="Of neighbouring windows, a fraction.")
    ] = 0.25,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images or windows at a time.")
    ] = 8,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Write every class's probability too (.npz, float16)."
        ),
    ] = False,
    every: Annotated[
        int, typer.Option("--every", min=1, help="Of films, each so-many-th picture.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1.")] = "auto",
    overwrite: Overwrite = False,
    trust_code: TrustCode = False,
) -> None:
    """Predict the class of every pixel of images and films, as ids, colours and overlays.

    Predictions have the size of their image. A file that cannot be read does not stop the rest: it
    is listed at the end, and the exit status is 1.
    """
    from rich.progress import Progress

    from muhdi.deploy.inputs import find_inputs
    from muhdi.deploy.predict_files import output_folders, predict_files
    from muhdi.deploy.predictor import Predictor, View

    view = View(size, window, overlap, batch_size)
    inputs = find_inputs(images, output_folders(output))
    predictor = Predictor.load(
        model,
        head=head,
        statistics=statistics,
        domain=domain,
        device=device,
        trust_code=trust_code,
    )
    out = console()
    with Progress(console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("predicting", total=None)
        count, failures = predict_files(
            predictor,
            inputs,
            output,
            view,
            probabilities=probabilities,
            overwrite=overwrite,
            every=every,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    out.print(f"{count} pictures predicted, in {output}", soft_wrap=True, markup=False)
    for failure in failures:
        typer.echo(f"failed: {one_line(failure)}", err=True)
    if failures:
        typer.echo(f"{len(failures)} of {len(inputs)} files failed", err=True)
        raise typer.Exit(1)


def export(
    model: Model,
    target: Annotated[str, typer.Argument(help="out.onnx, out.pt2, or the name of a folder.")],
    head: Head = None,
    statistics: Statistics = None,
    domain: Domain = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", help="logits [N, C, H, W], or classes [N, H, W] (.onnx and .pt2)."
        ),
    ] = "logits",
    images: Annotated[
        list[str],
        typer.Option(
            "--images", help="Files, folders or patterns to verify on; else the run's samples."
        ),
    ] = [],  # noqa: B006 - typer reads the default
    push: Annotated[
        Optional[str],
        typer.Option(
            "--push", help="Upload the folder to this repository of the Hugging Face hub."
        ),
    ] = None,
    overwrite: Overwrite = False,
    trust_code: TrustCode = False,
) -> None:
    """Export a network.

    ONNX, torch.export, or a folder in the manner of Hugging Face with a model card.

    It takes RGB uint8 images [N, 3, H, W] of any number and size; its normalisation is inside.
    Every export is compared with the network on real images before it gets its name.
    """
    from muhdi.deploy.export import export as run_export
    from muhdi.deploy.export import is_folder
    from muhdi.deploy.hub import hugging_face, push_to_hub
    from muhdi.deploy.inputs import find_inputs

    if output not in ("logits", "classes"):
        raise MuhdiError(f"--output {output}: must be logits or classes")
    if push is not None:
        if not is_folder(target):
            raise MuhdiError(
                f"--push: uploads a folder, but {target} is a file; give a name without an ending"
            )
        hugging_face()
    files = [item.path for item in find_inputs(images) if not item.is_film] if images else []
    path, verified = run_export(
        model,
        target,
        head=head,
        statistics=statistics,
        domain=domain,
        output=output,  # type: ignore[arg-type]
        images=files,
        overwrite=overwrite,
        trust_code=trust_code,
    )
    typer.echo(f"Written to {one_line(path)}; {verified}")
    if push is not None:
        typer.echo(f"Uploaded to {push_to_hub(path, push)}")


def adapt(
    model: Model,
    images: Annotated[
        Path, typer.Option("--images", help="Folder of images of the new place; no labels needed.")
    ],
    source: Annotated[
        Optional[str],
        typer.Option(
            "--source",
            help="Recipe of the source to train on, and of the domains to score; else the run's.",
        ),
    ] = None,
    settings: Set = [],  # noqa: B006 - typer reads the default
    seed: Seed = None,
    experiments: Experiments = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again where the run exists.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Take a trained network to a new place.

    The next model, and a report of what changed on every domain.

    One more step is trained as the run's last one was (--set every_step.iterations=500 changes it),
    into a run of its own. Domains with labels are scored before and after; for all of them,
    confidence, entropy and the agreement of the old and the new network are measured.
    """
    from muhdi import distributed
    from muhdi.report.run_files import read_run
    from muhdi.report.tables import change_table
    from muhdi.run.directory import RunDirectory
    from muhdi.workflows.adapt import adapt_as_planned, plan_adaptation

    refuse_both(resume=resume, overwrite=overwrite)
    plan = plan_adaptation(
        model, images, source=source, settings=settings, seed=seed, trust_code=trust_code
    )
    for note in plan.notes:
        typer.echo(f"note: {one_line(note)}")
    results = adapt_as_planned(plan, experiments, resume=resume, overwrite=overwrite)
    if not distributed.is_rank_zero():
        return
    folder = RunDirectory.of(plan.recipe, experiments).folder
    print_run(results, folder)
    run = read_run(folder)
    print_tables([change_table(run.change, kind) for kind in run.results.kinds()], None)
