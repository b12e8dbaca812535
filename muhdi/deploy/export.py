"""Exports: ONNX, torch.export, and a Hugging Face model folder.

Each is verified before it gets its name.

The exported network takes RGB uint8 images [N, 3, H, W] of any number and size, and holds its
normalisation.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.data.files import read_image
from muhdi.data.resize import resize_image
from muhdi.deploy.card import model_card
from muhdi.deploy.find import CARD, CONFIG, WEIGHTS, network_file, run_of
from muhdi.deploy.predictor import SMALLEST, Predictor
from muhdi.errors import MuhdiError, RecipeError
from muhdi.files import TEMPORARY, check_target, write_bytes, write_json, write_text
from muhdi.models.inference import Inference
from muhdi.run.sample_files import sample_images

Output = Literal["logits", "classes"]
Runner = Callable[[Tensor], Tensor]
"""Images uint8 [N, 3, H, W] -> what the export gives for them."""

TOLERANCE = 1e-3
"""Largest difference between logits, as a fraction of the largest logit.

Float32 in another order of summation.
"""
SAME = 0.999
"""Share of pixels that must have the same class; the others are ties but for rounding."""
VERIFIED_ON = 8
"""Images, at most."""


@dataclass(frozen=True)
class Verified:
    """How well an export agrees with the network.

    Attributes:
        images: on which it was compared, each at two sizes.
        difference: the largest between logits, as a fraction of the largest logit; None where
            classes are exported.
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
        return (
            f"verified on {self.images} images at two sizes: {logits}{100 * self.same:.3f} % of the"
            " classes agree"
        )


def export(  # noqa: PLR0913 - options by name
    model: Path | str,
    target: str,
    *,
    head: str | None = None,
    statistics: str | None = None,
    domain: str | None = None,
    output: Output = "logits",
    images: Sequence[Path] = (),
    overwrite: bool = False,
    trust_code: bool = False,
) -> tuple[Path, Verified]:
    """Write a network in another format.

    Args:
        model: a run directory, a network file, or an exported folder.
        target: ends in ``.onnx`` or ``.pt2``; any other name without an ending is a folder.
        head: whose predictions are exported. A folder keeps all heads and says which one is meant.
        statistics: ``running``, ``image`` or ``domain``; they become a part of the network. A
            folder keeps all.
        domain: whose statistics, with ``domain``.
        output: ``logits`` [N, C, H, W], or ``classes`` uint8 [N, H, W]; a folder has no output of
            its own.
        images: files to verify on; none: the samples that the run kept.
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
    write = _writer(target, output)
    _check(path, folder, overwrite=overwrite)
    predictor = Predictor.load(
        model,
        head=head,
        statistics=statistics,
        domain=domain,
        device="cpu",
        trust_code=trust_code,
    )
    batches = list(_batches(images or _samples(model), predictor.image_size))
    with _temporary_name(path) as temporary:
        runner = write(predictor, model, temporary)
        verified = verify(predictor, runner, batches, "logits" if folder else output, target)
        if folder:
            note = f"The export was {verified}."
            write_text(temporary / CARD, model_card(predictor, run_of(model), note))
            for file in temporary.iterdir():
                path.mkdir(parents=True, exist_ok=True)
                os.replace(file, path / file.name)
        else:
            os.replace(temporary, path)
    return path, verified


@torch.no_grad()
def verify(
    predictor: Predictor, runner: Runner, batches: Sequence[Tensor], output: Output, target: str
) -> Verified:
    """Compare an export with the network it was made from.

    Args:
        predictor: the network.
        runner: the export.
        batches: images, uint8 [N, 3, H, W] each.
        output: what the export gives.
        target: its name, for the message.

    Raises:
        MuhdiError: they disagree.
    """
    difference = 0.0
    same = 0
    pixels = 0
    for batch in batches:
        expected = predictor(batch)
        given = runner(batch)
        if output == "logits":
            if expected.shape != given.shape or not bool(given.isfinite().all()):
                raise MuhdiError(
                    f"{target}: the export gives {tuple(given.shape)} instead of"
                    f" {tuple(expected.shape)}"
                )
            difference = max(
                difference,
                float((expected - given).abs().max() / expected.abs().max().clamp_min(1e-12)),
            )
            given = given.argmax(1)
        same += int((expected.argmax(1) == given).sum())
        pixels += given.numel()
    found = Verified(len(batches[0]), difference if output == "logits" else None, same / pixels)
    if difference > TOLERANCE or found.same < SAME:
        raise MuhdiError(
            f"{target}: the export disagrees with the network ({found}); it was not kept"
        )
    return found


def is_folder(target: str) -> bool:
    """Whether a name stands for an exported folder."""
    return target.endswith(("/", os.sep)) or not Path(target).suffix


def _check(path: Path, folder: bool, *, overwrite: bool) -> None:
    if not folder:
        check_target(path)
    exists = any(path.iterdir()) if folder and path.is_dir() else path.exists()
    if exists and not overwrite:
        raise MuhdiError(f"{path}: exists already; choose another name, or give --overwrite")
    if exists and folder and not (path / CONFIG).is_file():
        raise MuhdiError(
            f"{path}: is not an exported folder, so it is not replaced; choose another name"
        )


def _samples(model: Path | str) -> list[Path]:
    run = run_of(model)
    files = [] if run is None else sample_images(run)
    if not files:
        raise MuhdiError(
            f"{model}: there are no images to verify the export on; name some: --images"
            " 'FOLDER/*.jpg' (runs keep samples with evaluation.samples)"
        )
    return files


def _batches(files: Sequence[Path], size: tuple[int, int]) -> Iterator[Tensor]:
    """Images spread over the files.

    All of them in one batch at ``size``, and each alone at an odd size.
    """
    count = min(VERIFIED_ON, len(files))
    chosen = [files[round(i)] for i in np.linspace(0, len(files) - 1, count)]
    images = [read_image(file) for file in chosen]
    other = max(SMALLEST, size[0] * 5 // 4) | 1, max(SMALLEST, size[1] * 3 // 4) | 1
    yield torch.from_numpy(np.stack([resize_image(image, size) for image in images])).permute(
        0, 3, 1, 2
    )
    for image in images:
        yield torch.from_numpy(np.array(resize_image(image, other))[None]).permute(0, 3, 1, 2)


@contextmanager
def _temporary_name(path: Path) -> Iterator[Path]:
    """A name next to ``path``, of which nothing is left at the end."""
    temporary = path.parent / f".{path.stem}.{os.getpid()}{TEMPORARY}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


# --- the formats ----------------------------------------------------------------------------------


def _writer(target: str, output: Output) -> Callable[[Predictor, Path | str, Path], Runner]:
    """What writes the format that a name asks for, and gives it back as a runner."""
    if output not in get_args(Output):
        raise RecipeError(f"--output {output}: must be logits or classes")
    suffix = "" if is_folder(target) else Path(target).suffix
    if suffix == ".onnx":
        _onnx()
        return lambda predictor, model, path: _write_onnx(predictor, path, output)
    if suffix == ".pt2":
        return lambda predictor, model, path: _write_pt2(predictor, path, output)
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
    """

    def __init__(self, predictor: Predictor, output: Output) -> None:
        super().__init__()
        checkpoint = predictor.checkpoint
        stored = None if predictor.domain is None else checkpoint.statistics[predictor.domain]
        self.output = output
        # Without the quick ways of a CPU: they are not for other programs.
        self.inference = Inference(
            checkpoint.network, predictor.head, predictor.statistics, stored, fast=False
        ).cpu()

    def forward(self, images: Tensor) -> Tensor:
        # `upsample` would ask for sizes, and so fix them in the export.
        size = [images.shape[2], images.shape[3]]
        logits = F.interpolate(
            self.inference(images), size=size, mode="bilinear", align_corners=True
        )
        return logits.argmax(1).to(torch.uint8) if self.output == "classes" else logits


def _traced(predictor: Predictor, output: Output) -> tuple[Exported, tuple[Tensor], dict[str, Any]]:
    """The network, an example, and which of its sides may be of any length."""
    example = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    sides = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=SMALLEST),
        3: torch.export.Dim("width", min=SMALLEST),
    }
    return Exported(predictor, output), (example,), {"images": sides}


def _notes(predictor: Predictor) -> dict[str, str]:
    """What a file says of itself."""
    notes = {
        "classes": json.dumps(predictor.classes.classes),
        "colours": json.dumps(predictor.classes.colours),
        "image_size": json.dumps(predictor.image_size),
        "head": predictor.head,
        "statistics": predictor.statistics,
        "input": "uint8 RGB [N, 3, H, W]",
    }
    return notes if predictor.domain is None else notes | {"domain": predictor.domain}


def _write_pt2(predictor: Predictor, path: Path, output: Output) -> Runner:
    plain, example, sides = _traced(predictor, output)
    with _quiet():
        program = torch.export.export(plain, example, dynamic_shapes=sides)
        torch.export.save(program, path, extra_files={"muhdi.json": json.dumps(_notes(predictor))})
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


def _write_onnx(predictor: Predictor, path: Path, output: Output) -> Runner:
    plain, example, sides = _traced(predictor, output)
    with _quiet():
        program: Any = torch.onnx.export(
            plain,
            example,
            dynamo=True,
            dynamic_shapes=sides,
            input_names=["images"],
            output_names=[output],
            verbose=False,
        )
    program.model.metadata_props.update(_notes(predictor))
    program.save(path, external_data=False)
    runtime = _onnx()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(None, {"images": images.contiguous().numpy()})[0]
    )


def _write_folder(predictor: Predictor, model: Path | str, path: Path) -> Runner:
    path.mkdir()
    write_bytes(path / WEIGHTS, network_file(model).read_bytes())
    names = predictor.classes.classes
    config = {
        "model_type": "muhdi",
        "backbone": predictor.backbone,
        "image_size": predictor.image_size,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "colours": predictor.classes.colours,
        "heads": list(predictor.checkpoint.network.heads),
        "head": predictor.head,
        "statistics": predictor.statistics,
        "domain": predictor.domain,
    }
    write_json(path / CONFIG, config)
    return Predictor.load(path, device="cpu", trust_code=True)


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
