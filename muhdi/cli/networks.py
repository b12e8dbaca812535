"""Commands that use trained networks: predict, export, convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Optional, cast

import typer

from muhdi.cli.options import (
    Bands,
    Domain,
    Head,
    ModelArgument,
    OverwriteFiles,
    Quiet,
    Scales,
    Statistics,
    TrustCode,
    Weights,
    read_scales,
)
from muhdi.cli.output import console, one_line, print_notes, progress
from muhdi.errors import RecipeError

if TYPE_CHECKING:
    from muhdi.deploy import export as exporting
    from muhdi.deploy.exported import ExportedPredictor
    from muhdi.deploy.predictor import Predictor
    from muhdi.deploy.raw_ids import RawIds
    from muhdi.deploy.submission import Submission
    from muhdi.taxonomy import ClassSet

Predicting = Annotated[
    Path,
    typer.Argument(
        help="A run directory (its newest network), a network file, an exported folder, or an"
        " exported .onnx or .pt2."
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(help="Files, folders, quoted patterns such as 'a/**/*.jpg', and videos."),
]
Predictions = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for ids/, colour/ and overlay/.")
]
InputSize = Annotated[
    Optional[tuple[int, int]],
    typer.Option(
        "--size",
        help="Width and height at which the network sees an image. By default as in training.",
    ),
]
Window = Annotated[
    bool,
    typer.Option(
        "--window", help="Slide a window of the training size over the image at its full size."
    ),
]
Overlap = Annotated[
    Optional[float],
    typer.Option(
        "--overlap",
        help="Overlap of neighbouring windows, as a fraction. By default 0.25; with --window.",
    ),
]
Flip = Annotated[
    bool,
    typer.Option("--flip", help="Average the probabilities of the image and its mirror image."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images or windows at a time.")]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities", help="Write the probability of every class, too (.npz, float16)."
    ),
]
Ids = Annotated[
    str,
    typer.Option(
        "--ids",
        help="What ids/ holds: positions in the list of classes (classes), the ids in the labels of"
        " the run's targets (raw), or those of a domain of the run or of a public data set, such as"
        " cityscapes.",
    ),
]
ForBenchmark = Annotated[
    Optional[str],
    typer.Option(
        "--submission",
        help="Write what the server of a benchmark wants, and nothing else: cityscapes, acdc or"
        " idd. The images are those of its test split.",
    ),
]
Every = Annotated[
    int, typer.Option("--every", min=1, help="Predict only every n-th frame of a video.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]
Target = Annotated[
    str, typer.Argument(help="A file, out.onnx or out.pt2, or the name of a folder.")
]
Output = Annotated[
    str,
    typer.Option("--output", help="logits [N, C, H, W], or classes [N, H, W] (.onnx and .pt2)."),
]
ExportedSize = Annotated[
    str,
    typer.Option(
        "--input-size",
        help="Whether images are resized inside, as muhdi predict does it (trained), or seen at"
        " their own size (native); of .onnx and .pt2.",
    ),
]
VerifiedOn = Annotated[
    list[str],
    typer.Option(
        "--images",
        help="Images to verify on: files, folders or patterns. By default the run's samples.",
    ),
]
Push = Annotated[
    Optional[str],
    typer.Option("--push", help="Upload the folder to this repository of the Hugging Face hub."),
]
Licence = Annotated[
    Optional[str],
    typer.Option(
        "--licence",
        help="Of the weights, for the model card of a folder: apache-2.0, cc-by-nc-4.0, ...",
    ),
]
Picture = Annotated[
    Optional[bool],
    typer.Option(
        "--picture/--no-picture",
        help="Show one of the images and its prediction in the model card of a folder. By default"
        " if it is not uploaded.",
    ),
]
Converted = Annotated[
    Path, typer.Argument(help="A run directory, or the file of a network or a discriminator.")
]
ConvertedTo = Annotated[
    Path,
    typer.Argument(help="Ends in .pth (the reference's layout) or in .safetensors (ours)."),
]
Classes = Annotated[
    Optional[str], typer.Option("--classes", help="Class set of a network of the reference.")
]
TrainedSize = Annotated[
    tuple[int, int],
    typer.Option("--image-size", min=1, help="Width and height of its training images."),
]


class Chosen(NamedTuple):
    """How a network predicts, where the command line says it."""

    head: str | None
    statistics: str | None
    domain: str | None
    weights: str | None


def predict(
    model: Predicting,
    images: Images,
    output: Predictions = Path("predictions"),
    head: Head = None,
    statistics: Statistics = None,
    domain: Domain = None,
    weights: Weights = None,
    size: InputSize = None,
    window: Window = False,
    overlap: Overlap = None,
    flip: Flip = False,
    scales: Scales = None,
    batch_size: BatchSize = 8,
    probabilities: Probabilities = False,
    ids: Ids = "classes",
    submission: ForBenchmark = None,
    every: Every = 1,
    bands: Bands = [],  # noqa: B006 - typer reads the default
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Predict the class of every pixel of images and videos, as ids, colours and overlays.

    Predictions have the size of their image. A file that cannot be read does not stop the others:
    it is listed at the end, and the exit status is 1.
    """
    from muhdi.deploy.inputs import find_inputs, left_out
    from muhdi.deploy.predict_files import output_folders, predict_files
    from muhdi.deploy.view import View

    factors = (1.0,) if scales is None else read_scales(scales)
    view = View(size, window, overlap, batch_size, flip, factors)
    inputs = find_inputs(images, output_folders(output))
    print_notes(left_out(images, inputs), err=True)
    chosen = Chosen(head, statistics, domain, weights)
    predictor = _predictor(model, chosen, device, trust_code=trust_code)
    wanted = _wanted(submission, ids, probabilities=probabilities)
    if wanted is not None:
        inputs = wanted.named(inputs)
    written_ids = _written_ids(wanted, ids, predictor.classes, model)
    with progress("predicting", quiet=quiet) as bar:
        count, failures = predict_files(
            predictor,
            inputs,
            output,
            view,
            probabilities=probabilities,
            overwrite=overwrite,
            every=every,
            ids=written_ids,
            only=None if wanted is None else wanted.folder,
            bands=bands,
            progress=bar.update,
        )
    console().print(f"{count} images predicted, in {output}", soft_wrap=True, markup=False)
    for failure in failures:
        typer.echo(f"failed: {one_line(failure)}", err=True)
    if failures:
        typer.echo(f"{len(failures)} of {len(inputs)} files failed", err=True)
        raise typer.Exit(1)


def _wanted(submission: str | None, ids: str, *, probabilities: bool) -> Submission | None:
    """What the server of a benchmark wants; None where nobody submits anything."""
    from muhdi.deploy.raw_ids import POSITIONS
    from muhdi.deploy.submission import find_submission

    if submission is None:
        return None
    if ids != POSITIONS or probabilities:
        raise RecipeError(
            "--submission: says itself what is written; leave --ids and --probabilities out"
        )
    return find_submission(submission)


def _written_ids(wanted: Submission | None, ids: str, classes: ClassSet, model: Path) -> RawIds:
    """The ids that are written, with a note on classes for which there are none."""
    from muhdi.deploy.find import run_of
    from muhdi.deploy.raw_ids import find_raw_ids

    note = ""
    if wanted is None:
        found = find_raw_ids(ids, classes, run_of(model))
        if found.ignored:
            missing = ", ".join(found.ignored)
            note = f"{found.name} has no id for {missing}; ids/ holds one that it ignores there"
    else:
        found = wanted.raw_ids(classes)
        untold = ", ".join(wanted.untold(classes))
        if untold:
            note = f"the benchmark scores {untold} too, which the network does not know: they get 0"
    if note:
        print_notes([note], err=True)
    return found


def _predictor(
    model: Path,
    chosen: Chosen,
    device: str,
    *,
    trust_code: bool,
) -> Predictor | ExportedPredictor:
    """What predicts: a network, or an exported file, whose choices are inside."""
    from muhdi.deploy.exported import ENDINGS, ExportedPredictor
    from muhdi.deploy.predictor import Predictor

    if model.suffix in ENDINGS:
        if any(chosen):
            raise RecipeError(
                f"{model}: head, statistics and weights are inside the file; leave --head,"
                " --statistics, --domain and --weights out"
            )
        return ExportedPredictor(model, device=device, trust_code=trust_code)
    return Predictor.load(model, **chosen._asdict(), device=device, trust_code=trust_code)


def export(
    model: ModelArgument,
    target: Target,
    head: Head = None,
    statistics: Statistics = None,
    domain: Domain = None,
    weights: Weights = None,
    output: Output = "logits",
    input_size: ExportedSize = "trained",
    images: VerifiedOn = [],  # noqa: B006 - typer reads the default
    bands: Bands = [],  # noqa: B006 - typer reads the default
    push: Push = None,
    licence: Licence = None,
    picture: Picture = None,
    overwrite: OverwriteFiles = False,
    trust_code: TrustCode = False,
) -> None:
    """Export a network to ONNX, to torch.export, or as a Hugging Face model folder.

    It takes RGB uint8 images [N, 3, H, W] of any number and size, and its normalisation is inside.
    Every export is compared with the network on real images before it gets its name.
    """
    from muhdi.deploy.card import NO_LICENCE
    from muhdi.deploy.export import export as run_export
    from muhdi.deploy.export import is_folder
    from muhdi.deploy.hub import hugging_face, push_to_hub
    from muhdi.deploy.inputs import find_inputs

    if push is not None:
        if not is_folder(target):
            raise RecipeError(
                f"--push: uploads a folder, but {target} is a file; give a name without an ending"
            )
        hugging_face()  # whether it is installed and logged in
    if not is_folder(target) and (licence is not None or picture is not None):
        raise RecipeError(
            f"--licence and --picture are for the model card of a folder, but {target} is a file;"
            " give a name without an ending"
        )
    inputs = find_inputs(images) if images else []
    files = [item.path for item in inputs if not item.is_video]
    if inputs and not files:
        raise RecipeError("--images: holds films alone, but an export is compared on images")
    films = [item.path for item in inputs if item.is_video]
    print_notes(
        [f"{film} is a film; exports are compared on images only" for film in films], err=True
    )
    path, verified = run_export(
        model,
        target,
        head=head,
        statistics=statistics,
        domain=domain,
        weights=weights,
        output=cast("exporting.Output", output),
        input_size=cast("exporting.InputSize", input_size),
        images=files,
        bands=bands,
        licence=licence or NO_LICENCE,
        picture=push is None if picture is None else picture,
        overwrite=overwrite,
        trust_code=trust_code,
    )
    typer.echo(f"Written to {one_line(path)}; {verified}")
    if push is not None:
        typer.echo(f"Uploaded to {push_to_hub(path, push)}")


def convert(
    source: Converted,
    target: ConvertedTo,
    classes: Classes = None,
    image_size: TrainedSize = (640, 320),
    overwrite: OverwriteFiles = False,
) -> None:
    """Convert a network between our layout and the reference's, every weight to the bit."""
    from muhdi.deploy.convert import convert as run_convert

    converted = run_convert(
        source, target, classes=classes, image_size=image_size, overwrite=overwrite
    )
    for path in converted.files:
        typer.echo(f"Written to {one_line(path)}")
    print_notes(converted.notes)
    if target.suffix != ".safetensors":
        typer.echo("This layout cannot hold the domains' statistics; keep the run for them.")
