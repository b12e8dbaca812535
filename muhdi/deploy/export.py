"""Exports: ONNX, torch.export, and a Hugging Face model folder.

Each is verified before it gets its name.

The exported network takes RGB uint8 images [N, 3, H, W] of any number and size, resizes them to the
size it was trained at as `muhdi predict` does, and gives logits or classes at the images' own size.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.data.arrays import images_tensor
from muhdi.data.channels import Channels
from muhdi.deploy.card import NO_LICENCE, CardNotes
from muhdi.deploy.find import run_of
from muhdi.deploy.folder import check_folder, move_files, write_card, write_network
from muhdi.deploy.inputs import check_channels, read_input
from muhdi.deploy.prediction import Pixels
from muhdi.deploy.predictor import Predictor
from muhdi.errors import MuhdiError, RecipeError
from muhdi.evaluation.samples import read_sample
from muhdi.evaluation.views import resized
from muhdi.files import TEMPORARY, check_target, writing
from muhdi.models.inference import Inference
from muhdi.recipe.evaluation import SMALLEST
from muhdi.run.sample_files import sample_images

Output = Literal["logits", "classes"]
InputSize = Literal["trained", "native"]
Runner = Callable[[Tensor], Tensor]
"""Images uint8 [N, 3, H, W] -> what the export gives for them."""
Writer = Callable[[Predictor, Path], Runner]
"""Writes a network to a path."""

TOLERANCE = 1e-3
"""Largest difference between logits, as a fraction of the largest logit.

Float32 in another order of summation.
"""
SAME = 0.995
"""Share of pixels that must have the same class as those of `muhdi predict`.

The others are near ties: a resized grey value may differ by one, and sums have another order.
"""
VERIFIED_ON = 8
"""Images, at most."""


@dataclass(frozen=True)
class Verified:
    """How well an export agrees with the network.

    Attributes:
        images: on which it was compared, each at its own size.
        difference: the largest between logits, as a fraction of the largest logit, where the export
            does not resize images; else None.
        same: share of the pixels with the same class.
    """

    images: int
    difference: float | None
    same: float

    def __str__(self) -> str:
        logits = (
            ""
            if self.difference is None
            else f"logits differ by at most {self.difference:.1e} of the largest, "
        )
        images = "1 image at its" if self.images == 1 else f"{self.images} images at their"
        return (
            f"verified on {images} own size: {logits}{100 * self.same:.3f} %"
            " of the pixels have the class that muhdi predict gives them"
        )


def export(  # noqa: PLR0913 - options by name
    model: Path | str,
    target: str,
    *,
    head: str | None = None,
    statistics: str | None = None,
    domain: str | None = None,
    weights: str | None = None,
    output: Output = "logits",
    input_size: InputSize = "trained",
    images: Sequence[Path] = (),
    bands: Sequence[str] = (),
    licence: str = NO_LICENCE,
    picture: bool = True,
    overwrite: bool = False,
    trust_code: bool = False,
) -> tuple[Path, Verified]:
    """Write a network in another format.

    Args:
        model: a run directory, a network file, or an exported folder.
        target: ends in ``.onnx`` or ``.pt2``; any other name without an ending is a folder.
        head: whose predictions are exported. A folder keeps all heads and says which one is meant.
        statistics: as in `Predictor.load`; they become a part of the network. A folder keeps all.
        domain: whose statistics, with ``domain``.
        weights: as in `Predictor.load`. A folder keeps both.
        output: ``logits`` [N, C, H, W], or ``classes`` uint8 [N, H, W]; a folder has no output of
            its own.
        input_size: ``trained``: images are resized inside, to the size that the network was trained
            at; ``native``: the network sees them at their own size. A folder says its size.
        images: files to verify on; none: the samples that the run kept.
        bands: patterns of further files of each of ``images``, for a network of more than three
            channels, see `muhdi.deploy.inputs.band_files`.
        licence: of the weights, for the model card of a folder, as the hub calls it.
        picture: whether the model card of a folder shows the first of the images.
        overwrite: replace what exists.
        trust_code: whether a backbone of another package is imported.

    Returns:
        What was written, and how well it agrees with the network.

    Raises:
        MuhdiError: a package is missing, there are no images, the target exists, or the export
            disagrees. Nothing is left of it then.
    """
    path = Path(target)
    folder = is_folder(target)
    write = _writer(target, output, input_size)
    _check(path, folder, overwrite=overwrite)
    predictor = Predictor.load(
        model,
        head=head,
        statistics=statistics,
        domain=domain,
        weights=weights,
        device="cpu",
        trust_code=trust_code,
    )
    if not folder and input_size == "trained":
        _check_stretched(predictor, target)
    shown = _shown(images, bands, predictor.channels) if images else _samples(model, bands)
    with _temporary_name(path) as temporary:
        with _in_one_line(target, input_size):
            runner = write(predictor, temporary)
            inside = folder or input_size == "trained"
            verified = verify(predictor, runner, shown, resized=inside, target=target)
        if folder:
            notes = CardNotes(predictor.run, licence, f"The export was {verified}.")
            example = predictor.predict(shown[0]).beside() if picture else None
            write_card(temporary, predictor.checkpoint, predictor.usage, notes, example)
            move_files(temporary, path)
        else:
            os.replace(temporary, path)
    return path, verified


@torch.no_grad()
def verify(
    predictor: Predictor,
    runner: Runner,
    images: Sequence[Pixels],
    *,
    resized: bool,
    target: str,
) -> Verified:
    """Compare an export with the network it was made from.

    Args:
        predictor: the network.
        runner: the export.
        images: uint8 [H, W, C] each, of any sizes.
        resized: the export resizes images, and is compared with `Predictor.predict`; else it is
            compared with what the network makes of the image at its own size.
        target: its name, for messages.

    Raises:
        MuhdiError: they disagree.
    """
    difference: float | None = None
    same = 0
    pixels = 0
    for image in images:
        batch = images_tensor([image], torch.device("cpu"))
        given = runner(batch)
        if resized:
            expected = torch.from_numpy(predictor.predict(image).ids)[None]
        else:
            logits = predictor(batch)
            expected = logits.argmax(1)
            if given.ndim == 4:
                difference = max(difference or 0.0, _difference(logits, given))
        classes = given.argmax(1) if given.ndim == 4 else given
        if classes.shape != expected.shape or not bool(given.float().isfinite().all()):
            raise MuhdiError(
                f"{target}: the export gives {tuple(classes.shape)} instead of"
                f" {tuple(expected.shape)}, or numbers that are not finite"
            )
        same += int((expected == classes).sum())
        pixels += classes.numel()
    found = Verified(len(images), difference, same / pixels)
    if (difference or 0.0) > TOLERANCE or found.same < SAME:
        raise MuhdiError(
            f"{target}: the export disagrees with the network ({found}); it was not kept"
        )
    return found


def _difference(expected: Tensor, given: Tensor) -> float:
    """The largest difference of logits, as a fraction of the largest; infinite for other shapes."""
    if expected.shape != given.shape:
        return float("inf")
    return float((expected - given).abs().max() / expected.abs().max().clamp_min(1e-12))


def is_folder(target: str) -> bool:
    """Whether a name stands for an exported folder."""
    return target.endswith(("/", os.sep)) or not Path(target).suffix


def _check(path: Path, folder: bool, *, overwrite: bool) -> None:
    if folder:
        check_folder(path, overwrite=overwrite)
        return
    check_target(path)
    if path.exists() and not overwrite:
        raise MuhdiError(f"{path}: exists already; choose another name, or give --overwrite")


def _check_stretched(predictor: Predictor, target: str) -> None:
    """Refuse to export the resizing of a network that sees padded images."""
    if predictor.fit == "pad":
        width, height = predictor.image_size
        raise MuhdiError(
            f"{target}: this network sees images padded to {width}x{height}, which an exported file"
            " cannot do inside; give --input-size native and pad them, or export a folder"
        )


def _samples(model: Path | str, bands: Sequence[str]) -> list[Pixels]:
    """Some of the samples that a network's run kept."""
    if bands:
        raise RecipeError(
            "bands: are further files of the images to verify on, but none are named; name some:"
            " --images FOLDER"
        )
    run = run_of(model)
    files = [] if run is None else sample_images(run)
    if not files:
        raise MuhdiError(
            f"{model}: there are no images to verify the export on; name some: --images"
            " 'FOLDER/*.jpg' (runs keep samples with evaluation.samples)"
        )
    return [read_sample(file) for file in _spread(files)]


def _shown(files: Sequence[Path], bands: Sequence[str], channels: Channels) -> list[Pixels]:
    """Some of the images that the user names, each at its own size, as `muhdi predict` reads it."""
    check_channels(files, channels, bands)
    return [read_input(file, channels, bands) for file in _spread(files)]


def _spread(files: Sequence[Path]) -> list[Path]:
    """As many as are verified on, from the first to the last."""
    count = min(VERIFIED_ON, len(files))
    return [files[round(place)] for place in np.linspace(0, len(files) - 1, count)]


@contextmanager
def _temporary_name(path: Path) -> Iterator[Path]:
    """A name next to ``path``, of which nothing is left at the end."""
    temporary = path.parent / f".{path.stem}.{os.getpid()}{TEMPORARY}{path.suffix}"
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()  # before the work, and for a message that names the user's path
            temporary.unlink()
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


# --- the formats ----------------------------------------------------------------------------------


def _writer(target: str, output: Output, input_size: InputSize) -> Writer:
    """What writes the format that a name asks for, and gives it back as a runner."""
    if output not in get_args(Output):
        raise RecipeError(f"--output {output}: must be logits or classes")
    if input_size not in get_args(InputSize):
        raise RecipeError(f"--input-size {input_size}: must be trained or native")
    suffix = "" if is_folder(target) else Path(target).suffix
    plain = partial(Exported, output=output, input_size=input_size)
    if suffix == ".onnx":
        _onnx()
        return lambda predictor, path: _write_onnx(plain(predictor), predictor, path)
    if suffix == ".pt2":
        return lambda predictor, path: _write_pt2(plain(predictor), predictor, path)
    if suffix:
        raise MuhdiError(
            f"{target}: must end in .onnx or .pt2, or be the name of a folder (without an ending)"
        )
    if output != "logits":
        raise MuhdiError("--output: is for .onnx and .pt2; a folder holds the network itself")
    return _write_folder


class Exported(nn.Module):
    """What is exported: images in, logits or classes out, at the images' size.

    Args:
        predictor: stays as it is.
        output: ``logits``, float32 [N, C, H, W], or ``classes``, uint8 [N, H, W].
        input_size: whether images are resized to the size that the network was trained at.
    """

    def __init__(
        self, predictor: Predictor, output: Output, input_size: InputSize = "trained"
    ) -> None:
        super().__init__()
        self.input_size: InputSize = input_size
        self.size = predictor.image_size if input_size == "trained" else None
        self.output = output
        # Without the quick ways of a CPU: they are not for other programs.
        self.inference = Inference(
            predictor.used.network,
            predictor.head,
            predictor.statistics,
            predictor.stored_statistics,
            fast=False,
        ).cpu()

    def forward(self, images: Tensor) -> Tensor:
        # `upsample` would ask for sizes, and so fix them in the export.
        size = [images.shape[2], images.shape[3]]
        seen = images if self.size is None else resized(images, self.size)
        logits = F.interpolate(
            self.inference(seen),
            size=size,
            mode="bilinear",
            align_corners=self.inference.align_corners,
        )
        return logits.argmax(1).to(torch.uint8) if self.output == "classes" else logits


def _example(predictor: Predictor) -> tuple[Tensor]:
    shape = (2, predictor.channels.count, 64, 96)
    return (torch.randint(0, 256, shape, dtype=torch.uint8),)


def _smallest_side(predictor: Predictor, input_size: InputSize) -> int:
    """Pixels that the sides of images must have at least."""
    multiple: int = predictor.checkpoint.network.backbone.multiple
    if input_size == "trained" or multiple == 1:
        return SMALLEST
    # An exporter takes what is 1 for a number that is always 1: two patches at least.
    return max(SMALLEST, multiple + 1)


def _sides(smallest: int) -> dict[int, Any]:
    """Which sides of the images may be of any length."""
    return {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=smallest),
        3: torch.export.Dim("width", min=smallest),
    }


def _notes(predictor: Predictor, input_size: InputSize) -> dict[str, str]:
    """What a file says of itself."""
    notes = {
        "smallest_side": str(_smallest_side(predictor, input_size)),
        "align_corners": json.dumps(predictor.inference.align_corners),
        "classes": json.dumps(predictor.classes.classes),
        "colours": json.dumps(predictor.classes.colours),
        "image_size": json.dumps(predictor.image_size),
        "input_size": input_size,
        "head": predictor.head,
        "statistics": predictor.statistics,
        "weights": predictor.weights,
        "input": f"uint8 RGB [N, {predictor.channels.count}, H, W]",
        "channels": str(predictor.channels.count),
        "pixel_range": json.dumps(predictor.channels.pixel_range),
    }
    return notes if predictor.domain is None else notes | {"domain": predictor.domain}


def _write_pt2(plain: Exported, predictor: Predictor, path: Path) -> Runner:
    notes = _notes(predictor, plain.input_size)
    sides = _sides(_smallest_side(predictor, plain.input_size))
    with _quiet():
        program = torch.export.export(plain, _example(predictor), dynamic_shapes={"images": sides})
        torch.export.save(program, path, extra_files={"muhdi.json": json.dumps(notes)})
        return torch.export.load(path).module()


def _onnx() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MuhdiError(
            f"ONNX needs {error.name}; install it: pip install 'muhdi[onnx]'"
        ) from None
    return onnxruntime


def _write_onnx(plain: Exported, predictor: Predictor, path: Path) -> Runner:
    sides = _sides(_smallest_side(predictor, plain.input_size))
    with _quiet():
        program: Any = torch.onnx.export(
            plain,
            _example(predictor),
            dynamo=True,
            dynamic_shapes={"images": sides},
            input_names=["images"],
            output_names=[plain.output],
            verbose=False,
        )
    program.model.metadata_props.update(_notes(predictor, plain.input_size))
    program.save(path, external_data=False)
    runtime = _onnx()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(None, {"images": images.contiguous().numpy()})[0]
    )


def _write_folder(predictor: Predictor, path: Path) -> Runner:
    path.mkdir()
    write_network(path, predictor.checkpoint, predictor.usage)
    loaded = Predictor.load(path, device="cpu", trust_code=True)
    return lambda images: torch.from_numpy(
        np.stack([loaded.predict(image.permute(1, 2, 0).numpy()).ids for image in images])
    )


@contextmanager
def _in_one_line(target: str, input_size: InputSize) -> Iterator[None]:
    """Turn what PyTorch's exporters raise, pages of guards, into one line."""
    try:
        yield
    except (MuhdiError, OSError, MemoryError):
        raise
    except Exception as error:  # of many kinds
        reason = re.split(r"[!.\n]", str(error) or type(error).__name__)[0]
        advice = "export a folder"
        if input_size == "native":
            advice = "give --input-size trained, or export a folder"
        raise MuhdiError(
            f"{target}: PyTorch cannot export this network's operations ({reason}); {advice}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporters say of themselves."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
