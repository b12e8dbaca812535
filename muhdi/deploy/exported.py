"""Predicting with an exported file: ONNX through ONNX Runtime, ``.pt2`` through torch.export."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muhdi.data.arrays import images_tensor
from muhdi.deploy.predictor import Pixels, Prediction, View
from muhdi.errors import DataError, MuhdiError, RecipeError
from muhdi.taxonomy import class_set_of

ENDINGS = (".onnx", ".pt2")
Runner = Callable[[Tensor], Tensor]
"""Images uint8 [N, 3, H, W] -> what the file gives for them."""


class ExportedPredictor:
    """A file that `muhdi export` wrote, in the place of a `Predictor`.

    Statistics, head and resizing are inside the file, so none of them can be chosen.

    Args:
        path: ends in ``.onnx`` or ``.pt2``.

    Raises:
        MuhdiError: a package is missing, or the file is not one of muhdi's.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; correct the path")
        self._path = path
        self._run, notes = _read_onnx(path) if path.suffix == ".onnx" else _read_pt2(path)
        if "classes" not in notes:
            raise DataError(
                f"{path}: does not say its classes, so it was not written by muhdi export"
            )
        self.classes = class_set_of(tuple(json.loads(notes["classes"])))
        self.head = notes.get("head", "")
        self.statistics = notes.get("statistics", "")
        self.domain = notes.get("domain")

    @torch.no_grad()
    def predict_many(
        self, images: Sequence[Pixels], view: View, *, probabilities: bool = False
    ) -> list[Prediction]:
        """As `Predictor.predict_many`; each image goes through the file at its own size.

        Raises:
            RecipeError: a size or windows are asked for, or probabilities of a file of classes.
        """
        if view.size is not None or view.window:
            raise RecipeError(
                f"{self._path}: decides itself how it sees images; leave --size and --window out"
            )
        return [self._predict(image, probabilities) for image in images]

    def _predict(self, image: Pixels, probabilities: bool) -> Prediction:
        given = self._run(images_tensor([image], torch.device("cpu")))[0]
        if given.ndim == 2:
            if probabilities:
                raise RecipeError(
                    f"{self._path}: gives classes only; export it with --output logits for"
                    " --probabilities"
                )
            return Prediction(image, given.numpy(), self.classes)
        ids = given.argmax(0).byte().numpy()
        shares = given.softmax(0).numpy() if probabilities else None
        return Prediction(image, ids, self.classes, shares)


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


def _read_pt2(path: Path) -> tuple[Runner, Mapping[str, str]]:
    extra = {"muhdi.json": ""}
    try:
        program = torch.export.load(path, extra_files=extra).module()
        notes = json.loads(extra["muhdi.json"] or "{}")
    except Exception as error:  # whatever the parsers make of arbitrary bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a torch.export file that can be read ({reason})") from None
    return lambda images: program(images), notes
