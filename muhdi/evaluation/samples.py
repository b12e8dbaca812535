"""Pictures of what networks make of a few images of every domain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from muhdi.data.arrays import images_tensor
from muhdi.data.channels import colours_of
from muhdi.data.domains import Domains
from muhdi.data.files import read_image
from muhdi.data.paths import find_file
from muhdi.errors import DataError, MuhdiError
from muhdi.evaluation.domains import Scored
from muhdi.evaluation.predict import predict
from muhdi.evaluation.results import Results
from muhdi.evaluation.views import Views, classes_of
from muhdi.files import file_name, write_png
from muhdi.models.checkpoint import Checkpoint, backbone_in, load_checkpoint
from muhdi.models.inference import Inference
from muhdi.models.tensor_files import read_tensors
from muhdi.recipe.backbones import OpaqueBackboneConfig
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.run.sample_files import after_name, predicted_name, sample_images, stem_of
from muhdi.taxonomy import ClassSet

Pixels = npt.NDArray[np.uint8]
ARRAY = ".npy"
"""Ending of a sample's image with all of its channels."""


def save_samples(directory: RunDirectory, scored: Scored, domains: Domains, recipe: Recipe) -> None:
    """Write images, labels and predictions after the last step, a few per domain.

    With them a run is complete: the folder gets its name when everything is in it.
    """
    if directory.samples.exists():
        return
    folder = directory.samples.with_name("samples.tmp")
    folder.mkdir(exist_ok=True)
    for domain in domains.validation:
        for statistics in scored.rows:
            inference = scored.inference(statistics, domain)
            if inference is not None:
                _save_domain(folder, domain, inference, domains, recipe)
    folder.rename(directory.samples)


def _save_domain(
    folder: Path, domain: str, inference: Inference, domains: Domains, recipe: Recipe
) -> None:
    classes = recipe.class_set()
    evaluation = recipe.evaluation
    samples = domains.validation[domain]
    views = Views.of(evaluation)
    predictions = predict(
        inference, samples, size=evaluation.size, views=views, count=evaluation.samples
    )
    for number, (sample, prediction) in enumerate(predictions):
        stem = f"{file_name(domain)}_{number}"
        write_sample(folder / f"{stem}_image.png", sample.image)
        if sample.label is not None:
            label_image(sample.label, classes).save(folder / f"{stem}_label.png")
        predicted = label_image(prediction.cpu().numpy(), classes)
        predicted.save(folder / predicted_name(stem, inference.statistics))


def write_sample(path: Path, image: Pixels) -> None:
    """Write an image of a run's samples; one with more than colours lies beside it as an array."""
    colours = colours_of(image)
    Image.fromarray(colours).save(path)
    if colours is not image:
        np.save(path.with_suffix(ARRAY), image, allow_pickle=False)


def array_of(path: Path) -> Path | None:
    """The file of all channels that lies beside an image; None where there is none."""
    array = path.with_suffix(ARRAY)
    return array if array.is_file() else None


def read_sample(path: Path) -> Pixels:
    """An image that `write_sample` wrote, with all of its channels.

    Raises:
        DataError: it cannot be read.
    """
    array = array_of(path)
    if array is None:
        return read_image(path)
    try:
        image: Pixels = np.load(array, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{array}: cannot be read ({error}); remove it") from None
    return image


def label_image(label: Pixels, classes: ClassSet) -> Image.Image:
    """A label or prediction as a palette image, whose pixels hold the class positions."""
    return classes.palette_image(np.asarray(label, np.uint8))


def add_earlier_predictions(run: Path, *, trust_code: bool = False) -> None:
    """Write predictions after every stage but the last into a finished run's samples.

    They come from the networks that the run saved after each stage, with each choice of
    statistics, at the size of the last ones; those that exist stay. A stage whose network is gone,
    or names code that is not trusted, has none.

    Raises:
        DataError: a network's file is damaged.
    """
    directory = RunDirectory(run)
    if not directory.samples.is_dir() or not directory.results.is_file():
        return
    recipe = directory.recipe()
    results = Results.load(directory.results)
    for stage in range(len(results.steps) - 1):
        missing = _missing(directory, results, stage)
        path = network_after(directory, recipe, stage)
        if not missing or path is None:
            continue
        scored = _trusted(path, recipe, trust_code=trust_code)
        if scored is not None:
            _add_predictions(scored, missing, recipe)


@dataclass(frozen=True)
class _Missing:
    """A prediction after an earlier stage that is to be written.

    Attributes:
        image: that is shown to the network.
        last: the prediction after the last stage, which has the size that is wanted.
        target: where the prediction goes.
    """

    image: Path
    last: Path
    target: Path


def _missing(
    directory: RunDirectory, results: Results, stage: int
) -> dict[tuple[str, str], list[_Missing]]:
    """The predictions after a stage that are not there, by statistics and domain."""
    found: dict[tuple[str, str], list[_Missing]] = {}
    for statistics in results.statistics:
        for domain in results.domains:
            for image in sample_images(directory.folder, domain):
                stem = stem_of(image)
                last = directory.samples / predicted_name(stem, statistics)
                target = directory.samples / after_name(stem, stage, statistics)
                if last.exists() and not target.exists():
                    wanted = found.setdefault((statistics, domain), [])
                    wanted.append(_Missing(image, last, target))
    return found


def network_after(directory: RunDirectory, recipe: Recipe, stage: int) -> Path | None:
    """The network after a stage; where another run trained the source, the one it gave."""
    found = recipe.stages()[stage]
    path = directory.model(stage, found.name, found.config.iterations)
    if not stage and not found.config.iterations and recipe.model.init is not None:
        try:
            path = find_file(recipe.model.init, recipe.runtime.root, "model.init")
        except MuhdiError:
            return None
    return path if path.is_file() and path.suffix == ".safetensors" else None


def as_scored(checkpoint: Checkpoint, recipe: Recipe) -> Checkpoint:
    """A network of a run with the weights that the run scores.

    One that another run has trained may lack them; the run's own began as its copy.
    """
    wanted = recipe.evaluation.weights
    return checkpoint.using(wanted) if wanted in checkpoint.stand_ins else checkpoint


def _trusted(network: Path, recipe: Recipe, *, trust_code: bool) -> Scored | None:
    """A network's file, read; None if it names code that is not trusted."""
    if not trust_code:
        backbone = backbone_in(network, *read_tensors(network))
        if isinstance(backbone, OpaqueBackboneConfig):
            return None
    checkpoint = as_scored(load_checkpoint(network, trust_code=trust_code), recipe)
    return Scored(checkpoint.network, checkpoint.statistics)


def _add_predictions(
    scored: Scored, missing: dict[tuple[str, str], list[_Missing]], recipe: Recipe
) -> None:
    """Predictions of one network, where it has the statistics."""
    classes = recipe.class_set()
    views = Views.of(recipe.evaluation)
    for (statistics, domain), wanted in missing.items():
        inference = scored.inference(statistics, domain)
        if inference is None:
            continue
        for sample in wanted:
            image = images_tensor([read_sample(sample.image)], inference.device)
            with Image.open(sample.last) as last:
                size = (last.height, last.width)
            (predicted,) = classes_of(inference, image, [size], views)
            write_png(sample.target, label_image(predicted.cpu().numpy(), classes))
