"""Predictions on many files, written as pictures.

For an input ``a/b.jpg`` the folder of outputs holds ``ids/a/b.png`` (grey values are class
positions), ``colour/a/b.png`` (a palette image), ``overlay/a/b.png`` and, if asked for,
``probabilities/a/b.npz`` (float16 ``probabilities`` [C, H, W]). A film's pictures are
``ids/a/b/000000.png`` and so on, and its overlay is a film. ``classes.json`` says which class each
position is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from muhdi.data.files import read_image
from muhdi.deploy.inputs import Input
from muhdi.deploy.predictor import SMALLEST, Pixels, Prediction, Predictor, View
from muhdi.deploy.video import Film, FilmWriter, pyav
from muhdi.errors import MuhdiError
from muhdi.files import write_bytes, write_json

OUTPUT_FOLDERS = {"ids": ".png", "colour": ".png", "overlay": ".png", "probabilities": ".npz"}
"""Folders of outputs, and how the files in them end."""

Progress = Callable[[int, int | None], None]


@dataclass
class _Picture:
    """One picture on its way.

    What its outputs are called, and the film that its overlay belongs to.
    """

    name: Path
    pixels: Pixels
    film: FilmWriter | None


def output_folders(out: Path) -> list[Path]:
    """Where `predict_files` writes."""
    return [out / kind for kind in OUTPUT_FOLDERS]


def predict_files(  # noqa: PLR0913 - options by name
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    view: View = View(),  # noqa: B008 - it never changes
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    every: int = 1,
    progress: Progress = lambda done, total: None,
) -> tuple[int, list[str]]:
    """Predict every input and write the outputs.

    A file that cannot be read does not stop the others.

    Args:
        predictor: the network.
        inputs: from `muhdi.deploy.inputs.find_inputs`.
        out: folder of the outputs.
        view: how the network is shown the images.
        probabilities: write them too.
        overwrite: replace outputs that exist; inputs are never replaced.
        every: of films, only each so-many-th picture.
        progress: called with the number of inputs done and of all.

    Returns:
        How many pictures were predicted, and a line for every file that failed.

    Raises:
        MuhdiError: an output exists, or is an input, or cannot be written. The first two are found
            before anything is written.
    """
    _check_outputs(inputs, out, overwrite=overwrite, probabilities=probabilities)
    _write_classes(predictor, out)
    writer = _Writer(predictor, out, view, probabilities=probabilities)
    for number, item in enumerate(inputs):
        progress(number, len(inputs))
        if item.is_film:
            writer.write_film(item, every)
        else:
            writer.write_image(item)
    writer.flush()
    progress(len(inputs), len(inputs))
    return writer.count, writer.failures


class _Writer:
    """Predicts pictures in batches, and writes their outputs.

    Attributes:
        count: pictures so far.
        failures: a line for every file that could not be read, in whole or in part.
    """

    def __init__(self, predictor: Predictor, out: Path, view: View, *, probabilities: bool) -> None:
        self.predictor = predictor
        self.out = out
        self.view = view
        self.probabilities = probabilities
        self.count = 0
        self.failures: list[str] = []
        self._batch: list[_Picture] = []

    def write_image(self, item: Input) -> None:
        """An image."""
        try:
            pixels = self._read(item.path)
        except (MuhdiError, OSError) as error:
            self.failures.append(str(error))
            return
        self._add(_Picture(item.name, pixels, None))

    def write_film(self, item: Input, every: int) -> None:
        """Each so-many-th picture of a film; where it is damaged, those before."""
        try:
            film = Film(item.path, every)
        except (MuhdiError, OSError) as error:
            self.failures.append(str(error))
            return
        overlay = (self.out / "overlay" / item.name).with_name(f"{item.name.name}.mp4")
        writer = FilmWriter(overlay, film.rate)
        try:
            for place, pixels in enumerate(self._readable(film)):
                self._add(_Picture(item.name / f"{place:06d}", pixels, writer))
            # What is still waiting belongs into the film.
            self.flush()
        except BaseException:
            writer.discard()
            raise
        writer.close()

    def flush(self) -> None:
        """Predict and write what is waiting."""
        predictions = self.predictor.predict_many(
            [picture.pixels for picture in self._batch],
            self.view,
            probabilities=self.probabilities,
        )
        for picture, prediction in zip(self._batch, predictions, strict=True):
            _write(self.out, picture, prediction)
        self._batch.clear()

    def _add(self, picture: _Picture) -> None:
        self._batch.append(picture)
        self.count += 1
        if len(self._batch) >= self.view.batch_size:
            self.flush()

    def _read(self, path: Path) -> Pixels:
        pixels = read_image(path)
        windows = self.view.window and self.view.size is None
        if windows and min(pixels.shape[:2]) < SMALLEST:
            raise MuhdiError(
                f"{path}: a side is smaller than {SMALLEST} pixels; windows do not fit"
            )
        return pixels

    def _readable(self, film: Film) -> Iterator[Pixels]:
        try:
            yield from film
        except MuhdiError as error:
            self.failures.append(str(error))


def _write_classes(predictor: Predictor, out: Path) -> None:
    """``classes.json``: which class each position is, and how the network was asked."""
    classes = predictor.classes
    listed = [
        {"id": position, "name": name, "colour": colour}
        for position, (name, colour) in enumerate(
            zip(classes.classes, classes.hex_colours(), strict=True)
        )
    ]
    asked = {"head": predictor.head, "statistics": predictor.statistics, "domain": predictor.domain}
    write_json(out / "classes.json", {"classes": listed, **asked})


def _output(out: Path, kind: str, name: Path) -> Path:
    return (out / kind / name).with_name(f"{name.name}{OUTPUT_FOLDERS[kind]}")


def _check_outputs(
    inputs: Sequence[Input], out: Path, *, overwrite: bool, probabilities: bool
) -> None:
    """Refuse to replace an input, and without ``overwrite`` anything."""
    if any(item.is_film for item in inputs):
        pyav()
    ours = {os.path.realpath(item.path): item.path for item in inputs}
    for item in inputs:
        for kind in (
            OUTPUT_FOLDERS
            if probabilities
            else [kind for kind in OUTPUT_FOLDERS if kind != "probabilities"]
        ):
            path = out / kind / item.name if item.is_film else _output(out, kind, item.name)
            if item.is_film and kind == "overlay":
                path = path.with_name(f"{item.name.name}.mp4")
            if os.path.realpath(path) in ours:
                raise MuhdiError(
                    f"{path}: is an input, and would be overwritten; choose another folder for"
                    " --output"
                )
            if path.exists() and not overwrite:
                raise MuhdiError(
                    f"{path}: exists already; choose another folder, or give --overwrite"
                )


def _write(out: Path, picture: _Picture, prediction: Prediction) -> None:
    overlay = prediction.overlay()
    pictures = {
        "ids": Image.fromarray(prediction.ids),
        "colour": prediction.colour(),
        "overlay": overlay,
    }
    if picture.film is not None:
        picture.film.add(np.asarray(pictures.pop("overlay")))
    for kind, image in pictures.items():
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        write_bytes(_output(out, kind, picture.name), buffer.getvalue())
    if prediction.probabilities is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, probabilities=prediction.probabilities.astype(np.float16))
        write_bytes(_output(out, "probabilities", picture.name), buffer.getvalue())
