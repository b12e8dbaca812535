"""Predictions on many files, written as images.

For an input ``a/b.jpg`` the folder of outputs holds ``ids/a/b.png`` (grey values are class
positions, or a data set's raw ids), ``colour/a/b.png`` (a palette image), ``overlay/a/b.png`` and,
if asked for, ``probabilities/a/b.npz`` (float16 ``probabilities`` [C, H, W]). Frames of a video are
``ids/a/b/000000.png`` and so on, and its overlay is a video. ``classes.json`` says which class each
id is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muhdi.deploy.exported import ExportedPredictor
from muhdi.deploy.inputs import Input, band_files, check_channels, read_input
from muhdi.deploy.online import OnlineSession
from muhdi.deploy.prediction import Pixels, Prediction, as_pixels
from muhdi.deploy.predictor import Predictor
from muhdi.deploy.raw_ids import POSITIONS, RawIds, find_raw_ids
from muhdi.deploy.video import Video, VideoWriter, pyav
from muhdi.deploy.view import View
from muhdi.errors import MuhdiError
from muhdi.files import read_json, write_bytes, write_json, write_png

OUTPUT_FOLDERS = {"ids": ".png", "colour": ".png", "overlay": ".png", "probabilities": ".npz"}
"""Folders of outputs, and how the files in them end."""

AnyPredictor = Predictor | ExportedPredictor | OnlineSession
"""What predicts."""
Progress = Callable[[int, int | None], None]


@dataclass
class _Waiting:
    """One image or frame on its way.

    Attributes:
        name: what its outputs are called.
        pixels: uint8 RGB [H, W, 3].
        video: that its overlay belongs to; None for an image.
    """

    name: Path
    pixels: Pixels
    video: VideoWriter | None


def output_folders(out: Path) -> list[Path]:
    """Where `predict_files` writes."""
    return [out / folder for folder in OUTPUT_FOLDERS]


def output_names(*, probabilities: bool, only: str | None = None) -> list[str]:
    """The folders that are written, that of the ids first; with ``only`` it alone, so named."""
    if only is not None:
        return [only]
    return [name for name in OUTPUT_FOLDERS if probabilities or name != "probabilities"]


def predict_files(  # noqa: PLR0913 - options by name
    predictor: AnyPredictor,
    inputs: Sequence[Input],
    out: Path,
    view: View = View(),  # noqa: B008 - it never changes
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    every: int = 1,
    ids: RawIds | None = None,
    only: str | None = None,
    bands: Sequence[str] = (),
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
        every: of videos, only every n-th frame.
        ids: what ``ids/`` holds; None: class positions.
        only: write nothing but the ids, to the folder of this name.
        bands: patterns of further files of each image, see `muhdi.deploy.inputs.band_files`.
        progress: called with the number of inputs done and of all.

    Returns:
        How many images and frames were predicted, and a line for every file that failed.

    Raises:
        MuhdiError: an output exists, or is an input, or cannot be written, or the inputs cannot
            have the network's channels. All but the third are found before anything is written.
    """
    folders = output_names(probabilities=probabilities, only=only)
    check_channels([item.path for item in inputs], predictor.channels, bands)
    _check_outputs(inputs, out, folders, bands, overwrite=overwrite)
    ids = ids or find_raw_ids(POSITIONS, predictor.classes, None)
    writer = _Writer(predictor, out, view, ids, folders, bands)
    _write_classes(predictor, out, ids, overwrite=overwrite)
    for number, item in enumerate(inputs):
        progress(number, len(inputs))
        if item.is_video:
            writer.write_video(item, every)
        else:
            writer.write_image(item)
    writer.flush()
    progress(len(inputs), len(inputs))
    return writer.count, writer.failures


def predict_stream(
    predictor: AnyPredictor,
    images: Iterable[Any],
    out: Path,
    view: View,
    *,
    overwrite: bool = False,
) -> int:
    """Predict images as they come, and write the outputs by number: ``ids/000000.png`` and so on.

    Args:
        predictor: the network.
        images: files, PIL images, or uint8 RGB [H, W, 3].
        out: folder of the outputs.
        view: how the network is shown the images.
        overwrite: replace outputs that exist.

    Returns:
        How many images were predicted.

    Raises:
        MuhdiError: an image cannot be read, or outputs exist or cannot be written.
    """
    existing = [folder for folder in output_folders(out) if folder.exists()]
    if existing and not overwrite:
        raise MuhdiError(
            f"{existing[0]}: exists already; choose another folder, or give --overwrite"
        )
    ids = find_raw_ids(POSITIONS, predictor.classes, None)
    writer = _Writer(predictor, out, view, ids, output_names(probabilities=False))
    _write_classes(predictor, out, ids, overwrite=overwrite)
    for number, image in enumerate(images):
        writer.write_pixels(Path(f"{number:06d}"), as_pixels(image, predictor.channels))
    writer.flush()
    return writer.count


class _Writer:
    """Predicts images in batches, and writes their outputs.

    Attributes:
        count: images and frames so far.
        failures: a line for every file that could not be read, in whole or in part.
    """

    def __init__(
        self,
        predictor: AnyPredictor,
        out: Path,
        view: View,
        ids: RawIds,
        folders: Sequence[str],
        bands: Sequence[str] = (),
    ) -> None:
        self.predictor = predictor
        self.bands = bands
        self.out = out
        self.view = view
        self.ids = ids
        self.folders = folders
        self.probabilities = "probabilities" in folders
        self.smallest = predictor.check(view, probabilities=self.probabilities)
        self.count = 0
        self.failures: list[str] = []
        self._batch: list[_Waiting] = []

    def write_image(self, item: Input) -> None:
        """An image."""
        try:
            pixels = self._read(item.path)
        except (MuhdiError, OSError) as error:
            self.failures.append(str(error))
            return
        self.write_pixels(item.name, pixels)

    def write_pixels(self, name: Path, pixels: Pixels) -> None:
        """An image that was read: what its outputs are called, and uint8 RGB [H, W, 3]."""
        self._add(_Waiting(name, pixels, None))

    def write_video(self, item: Input, every: int) -> None:
        """Every n-th frame of a video; if it is damaged, those before the damage."""
        try:
            video = Video(item.path, every)
        except (MuhdiError, OSError) as error:
            self.failures.append(str(error))
            return
        writer = VideoWriter(_video_overlay(self.out, item), video.rate)
        try:
            for number, pixels in enumerate(self._readable(video)):
                self._add(_Waiting(item.name / f"{number:06d}", pixels, writer))
            # What is still waiting belongs to the video.
            self.flush()
        except BaseException:
            writer.discard()
            raise
        writer.close()

    def flush(self) -> None:
        """Predict and write what is waiting."""
        predictions = self.predictor.predict_many(
            [waiting.pixels for waiting in self._batch],
            self.view,
            probabilities=self.probabilities,
        )
        for waiting, prediction in zip(self._batch, predictions, strict=True):
            _write(self.out, waiting, prediction, self.ids, self.folders)
        self._batch.clear()

    def _add(self, waiting: _Waiting) -> None:
        self._batch.append(waiting)
        self.count += 1
        if len(self._batch) >= self.view.batch_size:
            self.flush()

    def _read(self, path: Path) -> Pixels:
        pixels = read_input(path, self.predictor.channels, self.bands)
        self._check_sides(path, pixels)
        return pixels

    def _readable(self, video: Video) -> Iterator[Pixels]:
        try:
            for pixels in video:
                self._check_sides(video.path, pixels)
                yield pixels
        except MuhdiError as error:
            self.failures.append(str(error))

    def _check_sides(self, path: Path, pixels: Pixels) -> None:
        if min(pixels.shape[:2]) < self.smallest:
            raise MuhdiError(
                f"{path}: a side is smaller than {self.smallest} pixels; enlarge the image"
            )


def _write_classes(predictor: AnyPredictor, out: Path, ids: RawIds, *, overwrite: bool) -> None:
    """``classes.json``: which class each id is, whose ids they are, how the network was asked.

    Raises:
        MuhdiError: the folder holds predictions of other classes or ids.
    """
    classes = predictor.classes
    listed = [
        {"id": raw_id, "name": name, "colour": colour}
        for raw_id, name, colour in zip(
            ids.ids, classes.classes, classes.hex_colours(), strict=True
        )
    ]
    path = out / "classes.json"
    if path.is_file() and not overwrite and read_json(path).get("classes") != listed:
        raise MuhdiError(
            f"{path}: the predictions in this folder are of other classes or ids; choose another"
            " folder with --output, or give --overwrite"
        )
    asked = {"head": predictor.head, "statistics": predictor.statistics, "domain": predictor.domain}
    write_json(path, {"ids": ids.name, "classes": listed, **asked})


def _output(out: Path, folder: str, name: Path) -> Path:
    return (out / folder / name).with_name(f"{name.name}{OUTPUT_FOLDERS.get(folder, '.png')}")


def _video_overlay(out: Path, item: Input) -> Path:
    return (out / "overlay" / item.name).with_name(f"{item.name.name}.mp4")


def _check_outputs(
    inputs: Sequence[Input],
    out: Path,
    folders: Sequence[str],
    bands: Sequence[str],
    *,
    overwrite: bool,
) -> None:
    """Refuse to replace a file of an input, and without ``overwrite`` anything."""
    if any(item.is_video for item in inputs):
        pyav()
    ours = set()
    for item in inputs:
        ours |= {os.path.realpath(path) for path in (item.path, *band_files(item.path, bands))}
    for item in inputs:
        for folder in folders:
            path = out / folder / item.name if item.is_video else _output(out, folder, item.name)
            if item.is_video and folder == "overlay":
                path = _video_overlay(out, item)
            if os.path.realpath(path) in ours:
                raise MuhdiError(
                    f"{path}: is an input, and would be overwritten; choose another folder for"
                    " --output"
                )
            if path.exists() and not overwrite:
                raise MuhdiError(
                    f"{path}: exists already; choose another folder, or give --overwrite"
                )


def _write(
    out: Path, waiting: _Waiting, prediction: Prediction, ids: RawIds, folders: Sequence[str]
) -> None:
    first, *others = folders
    images = {first: ids.image(prediction.ids)}
    if "overlay" in others:
        images |= {"colour": prediction.colour(), "overlay": prediction.overlay()}
    if waiting.video is not None:
        waiting.video.add(np.asarray(images.pop("overlay")))
    for folder, image in images.items():
        write_png(_output(out, folder, waiting.name), image)
    if prediction.probabilities is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, probabilities=prediction.probabilities.astype(np.float16))
        write_bytes(_output(out, "probabilities", waiting.name), buffer.getvalue())
