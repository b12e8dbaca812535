"""A trained network that adapts to a stream while it predicts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muhdi.data.lists import is_list
from muhdi.data.sets import Size
from muhdi.deploy.inputs import Input, find_inputs, left_out, list_inputs
from muhdi.deploy.online import OnlineSession
from muhdi.deploy.predict_files import output_folders, predict_files, predict_stream
from muhdi.deploy.predictor import Predictor
from muhdi.deploy.view import View
from muhdi.errors import DataError, Interrupted, MuhdiError, RecipeError, check_type
from muhdi.files import check_folder_target, write_json
from muhdi.models.checkpoint import save_checkpoint
from muhdi.recipe.online import USUAL, OnlineConfig, read_online
from muhdi.recipe.section import plain
from muhdi.run.signals import noted_signals

NETWORK = "network.safetensors"
FACTS = "online.json"
MANY = 100
"""Remarks that are kept: a stream may have no end."""

OnProgress = Callable[[int, int | None], None]
OnRemark = Callable[[str], None]


@dataclass
class OnlineRun:
    """What came of adapting to a stream.

    Attributes:
        method: the section that describes the method.
        network: file of the adapted network; it is there if there was an image.
        images: how many were predicted and learned from.
        latency: of an image, in milliseconds.
        resets: how often the network had collapsed and was reset.
        statistics: what batch norms normalise with; ``none`` without them.
        remarks: the first lines for the user, `MANY` at most.
        failures: a line for every file that could not be read.
        notes: on what was left out.
    """

    method: OnlineConfig
    network: Path
    images: int = 0
    latency: dict[str, Any] = field(default_factory=dict)
    resets: int = 0
    statistics: str = ""
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "method": plain(self.method),
            "images": self.images,
            "latency": self.latency,
            "resets": self.resets,
            "statistics": self.statistics,
            "network": self.network.name,
            "remarks": self.remarks,
            "failures": self.failures,
        }


def adapt_online(  # noqa: PLR0913 - options by name
    model: Path | str,
    stream: Path | str | Iterable[Any],
    output: Path | str,
    *,
    method: str | OnlineConfig = USUAL,
    options: Mapping[str, Any] | None = None,
    size: Size | None = None,
    every: int = 1,
    bands: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
    on_remark: OnRemark = lambda line: None,
    **use: Any,
) -> OnlineRun:
    """Predict a stream of images, and let the network adapt to each of them.

    The folder of outputs holds what `muhdi predict` writes, the adapted network as
    ``network.safetensors``, and ``online.json`` with latency and remarks.

    Args:
        model: a run directory, a network file, or an exported folder.
        stream: a folder, whose images come in the order of their names, a film, a text file with an
            image a line, a file, a pattern; or an iterable of what `Predictor.predict` takes, whose
            predictions are called by their numbers.
        output: folder that is written.
        method: how it adapts, see `Predictor.adapt_by`.
        options: of the method, by key.
        size: width and height at which the network sees images; None: as in training.
        every: of films, only every n-th frame.
        bands: patterns of further files of each image, see `muhdi.deploy.inputs.band_files`.
        device: ``cpu``, ``cuda``, ``cuda:1``; ``auto``: a GPU where there is one.
        overwrite: replace outputs that exist.
        trust_code: whether classes of other packages that the network names are imported; a class
            that ``method`` names is.
        on_progress: called with the number of files that are done, and of all; None: unknown.
        on_remark: called with each line for the user, such as a reset.
        use: ``head``, ``statistics``, ``domain``, ``weights``, as for `Predictor.load`.

    Raises:
        MuhdiError: something is missing or does not suit, and nothing is written; or the stream
            broke, and what was adapted so far is saved.
        Interrupted: after a signal, with what was adapted so far saved.
    """
    check_type("model", model, str, Path)
    check_type("output", output, str, Path)
    out = Path(output)
    section = read_online(method, options or {})
    view = View(size, batch_size=1)
    inputs = _inputs(stream, out, bands)
    check_output(out, overwrite=overwrite)
    predictor = Predictor.load(model, device=device, trust_code=trust_code, **use)
    session = predictor.adapt_by(section)
    run = OnlineRun(section, out / NETWORK)
    try:
        with saved(session, run, lambda line: on_remark(f"{section.shown_name}: {line}")):
            if inputs is None:
                images = _told(_guarded(stream), on_progress)
                predict_stream(session, images, out, view, overwrite=overwrite)
            else:
                run.notes = left_out([str(stream)], inputs)
                _, run.failures = predict_files(
                    session,
                    inputs,
                    out,
                    view,
                    overwrite=overwrite,
                    every=every,
                    bands=bands,
                    progress=on_progress,
                )
    finally:
        if run.images:
            write_json(out / FACTS, run.to_json())
    return run


def _inputs(
    stream: Path | str | Iterable[Any], out: Path, bands: Sequence[str]
) -> list[Input] | None:
    """The files of a stream; None where it is an iterable."""
    if not isinstance(stream, (str, os.PathLike)):
        check_type("stream", stream, str, Path, Iterable)
        if bands:
            raise RecipeError(
                "bands: are further files of a stream of files; of an iterable, give each image as"
                " the list of its files"
            )
        return None
    if is_list(str(stream)):
        return list_inputs(Path(stream))
    return find_inputs([str(stream)], output_folders(out))


def check_output(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder of outputs that cannot be written, or holds an adapted network."""
    check_folder_target(out)
    for name in (NETWORK, FACTS):
        if (out / name).exists() and not overwrite:
            raise MuhdiError(
                f"{out / name}: exists already; choose another folder with --output, or give"
                " --overwrite"
            )


def _guarded(stream: Any) -> Iterator[Any]:
    """The images of an iterable, whose failure is one line."""
    try:
        yield from stream
    except MuhdiError:
        raise
    except Exception as error:  # whatever a camera's driver raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"stream: broke ({reason})") from error


def _told(stream: Iterator[Any], on_progress: OnProgress) -> Iterator[Any]:
    for number, image in enumerate(stream):
        on_progress(number, None)
        yield image


@contextmanager
def saved(session: OnlineSession, run: OnlineRun, on_remark: OnRemark) -> Iterator[None]:
    """Inside, a session adapts; however that ends, what it has adapted is saved.

    A signal stops it between two images.

    Args:
        session: whose `before_image` is set.
        run: gets what is known at the end.
        on_remark: called with each line for the user.

    Raises:
        DataError: the stream broke after some images.
        Interrupted: after a signal.
    """

    def tell() -> None:
        for line in session.method.remarks():
            on_remark(line)
            if len(run.remarks) < MANY:
                run.remarks.append(line)

    with noted_signals() as received:

        def look() -> None:
            tell()
            if received:
                raise Interrupted(received[0])

        session.before_image = look
        error: Exception | None = None
        try:
            yield
        except Exception as found:  # whatever it is, it comes again below
            error = found
        tell()
        run.images = session.latency.images
        run.latency = session.latency.to_json()
        run.resets = session.resets
        run.statistics = session.statistics
        if run.images:
            save_checkpoint(run.network, session.checkpoint())
    if error is None:
        return
    if run.images and isinstance(error, MuhdiError):
        raise DataError(
            f"{error}; what was adapted to the {run.images} images before is in {run.network}"
        ) from None
    raise error
