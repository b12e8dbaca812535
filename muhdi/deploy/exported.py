"""Predicting with an exported file: ONNX through ONNX Runtime, ``.pt2`` through torch.export."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muhdi.data.arrays import images_tensor
from muhdi.data.channels import Channels
from muhdi.deploy.plain_program import is_plain
from muhdi.deploy.prediction import Pixels, Prediction
from muhdi.deploy.view import View
from muhdi.errors import DataError, MuhdiError, RecipeError
from muhdi.evaluation.views import Views, probabilities_of
from muhdi.recipe.evaluation import SMALLEST
from muhdi.recipe.section import RGB
from muhdi.taxonomy import class_set_of

ENDINGS = (".onnx", ".pt2")


Runner = Callable[[Tensor], Tensor]
"""Images uint8 [N, 3, H, W] -> what a file gives for them, at their size."""


@dataclass(frozen=True)
class Program:
    """What a file computes.

    Attributes:
        function: gives it.
        align_corners: how that is enlarged further.
    """

    function: Runner
    align_corners: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        """What the file gives."""
        return self.function(images)


class ExportedPredictor:
    """A file that `muhdi export` wrote, in the place of a `Predictor`.

    Statistics, head and resizing are inside the file, so none of them can be chosen.

    Args:
        path: ends in ``.onnx`` or ``.pt2``.
        device: files run on the CPU; only ``auto`` and ``cpu`` are taken.
        trust_code: read a ``.pt2`` that holds more than tensors and operations on them, and so
            might run code.

    Raises:
        MuhdiError: a package is missing, the file is not one of muhdi's, or it is not trusted.
    """

    def __init__(self, path: Path, *, device: str = "auto", trust_code: bool = False) -> None:
        if device not in ("auto", "cpu"):
            raise RecipeError(
                f"device {device}: {path} runs on the CPU; leave --device out, or predict with the"
                " run"
            )
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; correct the path")
        self._path = path
        if path.suffix == ".onnx":
            function, notes = _read_onnx(path)
        else:
            function, notes = _read_pt2(path, trust_code=trust_code)
        self._run = Program(function, json.loads(notes.get("align_corners", "true")) is True)
        if "classes" not in notes:
            raise DataError(
                f"{path}: does not say its classes, so it was not written by muhdi export"
            )
        self.classes = class_set_of(tuple(json.loads(notes["classes"])))
        self.head = notes.get("head", "")
        self.statistics = notes.get("statistics", "")
        self.domain = notes.get("domain")
        self._smallest = int(notes.get("smallest_side", SMALLEST))
        self.channels = _channels(notes)
        shape = (1, self.channels.count, self._smallest, self._smallest)
        trial = torch.zeros(shape, dtype=torch.uint8)
        self._gives_logits = self._run(trial).ndim == 4
        self._takes_scales = notes.get("input_size") == "native"

    def check(self, view: View, *, probabilities: bool) -> int:
        """As `Predictor.check`."""
        if view.size is not None or view.window:
            raise RecipeError(
                f"{self._path}: decides itself how it sees images; leave --size and --window out"
            )
        if probabilities and not self._gives_logits:
            raise RecipeError(
                f"{self._path}: gives classes only; export it with --output logits for"
                " --probabilities"
            )
        views = _views(view)
        averages = not views.look_once((self._smallest, self._smallest))
        if averages and not self._gives_logits:
            raise RecipeError(
                f"{self._path}: gives classes only; export it with --output logits for --flip and"
                " --scales"
            )
        if views.scales != (1.0,) and not self._takes_scales:
            raise RecipeError(
                f"{self._path}: resizes images to one size inside; export it with --input-size"
                " native for --scales"
            )
        return max(self._smallest, math.ceil(self._smallest / min(views.scales)))

    @torch.no_grad()
    def predict_many(
        self, images: Sequence[Pixels], view: View, *, probabilities: bool = False
    ) -> list[Prediction]:
        """As `Predictor.predict_many`; each image goes through the file at its own size.

        Raises:
            RecipeError: a size or windows are asked for, probabilities or the mean of several views
                of a file of classes, or scales of one that resizes images itself.
        """
        smallest = self.check(view, probabilities=probabilities)
        views = _views(view)
        found = []
        for image in images:
            height, width = image.shape[:2]
            if min(height, width) < smallest:
                raise MuhdiError(
                    f"the image is {width}x{height}; {self._path} takes sides of at least"
                    f" {smallest}"
                )
            if views.look_once((height, width)):
                found.append(self._predict(image, probabilities))
            else:
                found.append(self._averaged(image, views, probabilities))
        return found

    def _averaged(self, image: Pixels, views: Views, probabilities: bool) -> Prediction:
        size = (image.shape[0], image.shape[1])
        (softmax,) = probabilities_of(self._run, images_tensor([image]), [size], views)
        shares = softmax.numpy() if probabilities else None
        return Prediction(image, softmax.argmax(0).byte().numpy(), self.classes, shares)

    def _predict(self, image: Pixels, probabilities: bool) -> Prediction:
        given = self._run(images_tensor([image]))[0]
        if given.ndim == 2:
            return Prediction(image, given.numpy(), self.classes)
        ids = given.argmax(0).byte().numpy()
        shares = given.softmax(0).numpy() if probabilities else None
        return Prediction(image, ids, self.classes, shares)


def _channels(notes: Mapping[str, str]) -> Channels:
    """What a file takes; those of earlier versions do not say it, and take colours."""
    ends = json.loads(notes.get("pixel_range", "null"))
    return Channels(int(notes.get("channels", RGB)), None if ends is None else (ends[0], ends[1]))


def _views(view: View) -> Views:
    return Views(flip=view.flip, scales=tuple(map(float, view.scales)), batch_size=view.batch_size)


def _read_onnx(path: Path) -> tuple[Runner, Mapping[str, str]]:
    try:
        import onnxruntime
    except ImportError:
        raise MuhdiError("ONNX needs onnxruntime; install it: pip install 'muhdi[onnx]'") from None
    try:
        session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of ONNX Runtime's own kinds
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not an ONNX file that can be read ({reason})") from None
    (given,) = session.get_inputs()[:1]

    def run(images: Tensor) -> Tensor:
        outputs = session.run(None, {given.name: images.contiguous().numpy()})
        return torch.from_numpy(outputs[0])

    return run, session.get_modelmeta().custom_metadata_map


def _read_pt2(path: Path, *, trust_code: bool) -> tuple[Runner, Mapping[str, str]]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not a torch.export file that can be read; export it again")
    if not trust_code and not is_plain(path):
        raise DataError(
            f"{path}: holds more than muhdi export writes, and reading it could run code; if you"
            " trust where it is from, give --trust-code"
        )
    extra = {"muhdi.json": ""}
    try:
        program = torch.export.load(path, extra_files=extra).module()
        notes = json.loads(extra["muhdi.json"] or "{}")
    except Exception as error:  # whatever the parsers make of arbitrary bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a torch.export file that can be read ({reason})") from None
    return program, notes
