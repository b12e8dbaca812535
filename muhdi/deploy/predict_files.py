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


def predict_files(
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
    colours = predictor.classes.hex_colours()
    names = predictor.classes.classes
    told = {"head": predictor.head, "statistics": predictor.statistics, "domain": predictor.domain}
    listed = [
        {"id": i, "name": n, "colour": c}
        for i, (n, c) in enumerate(zip(names, colours, strict=True))
    ]
    write_json(out / "classes.json", {"classes": listed, **told})
    failures: list[str] = []
    count = 0
    batch: list[_Picture] = []

    def flush() -> None:
        predictions = predictor.predict_many(
            [p.pixels for p in batch], view, probabilities=probabilities
        )
        for picture, prediction in zip(batch, predictions, strict=True):
            _write(out, picture, prediction)
        batch.clear()

    smallest = SMALLEST if view.window and view.size is None else 1
    for picture in _pictures(inputs, out, every, smallest, failures, flush, progress):
        batch.append(picture)
        count += 1
        if len(batch) >= view.batch_size:
            flush()
    flush()
    return count, failures


def _pictures(
    inputs: Sequence[Input],
    out: Path,
    every: int,
    smallest: int,
    failures: list[str],
    flush: Callable[[], None],
    progress: Progress,
) -> Iterator[_Picture]:
    """Pictures of all inputs.

    A file that cannot be read, in whole or in part, adds a line to ``failures``.
    """
    for number, item in enumerate(inputs):
        progress(number, len(inputs))
        try:
            if not item.is_film:
                pixels = read_image(item.path)
                if min(pixels.shape[:2]) < smallest:
                    raise MuhdiError(
                        f"{item.path}: a side is smaller than {smallest} pixels; windows do not fit"
                    )
                yield _Picture(item.name, pixels, None)
                continue
            film = Film(item.path, every)
        except (MuhdiError, OSError) as error:
            failures.append(str(error))
            continue
        yield from _film_pictures(film, item, out, failures, flush)
    progress(len(inputs), len(inputs))


def _film_pictures(
    film: Film, item: Input, out: Path, failures: list[str], flush: Callable[[], None]
) -> Iterator[_Picture]:
    """Pictures of a film; where it is damaged, those before."""
    writer = FilmWriter((out / "overlay" / item.name).with_name(f"{item.name.name}.mp4"), film.rate)
    try:
        try:
            for place, pixels in enumerate(film):
                yield _Picture(item.name / f"{place:06d}", pixels, writer)
        except MuhdiError as error:
            failures.append(str(error))
        flush()  # what is still waiting belongs into the film
    except BaseException:
        writer.discard()
        raise
    writer.close()


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
