"""What the networks of a run's earlier stages made of the samples that the run kept, so that one sees them change."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image

from muhdi.data.files import read_image
from muhdi.data.paths import find_file
from muhdi.deploy.hub import load
from muhdi.deploy.predictor import Predictor
from muhdi.errors import MuhdiError
from muhdi.evaluation.argmax import classes_at
from muhdi.evaluation.results import Results
from muhdi.files import read_json, write_bytes
from muhdi.recipe.schema import Recipe
from muhdi.report.run_files import after_name, sample_images
from muhdi.run.directory import RunDirectory


def add_earlier_predictions(run: Path) -> None:
    """Beside a finished run's samples, write predictions after every stage but the last.

    Those that are there stay.

    They are made by the networks that the run saved after each stage, with each kind of statistics,
    at the size of the last ones. Of a stage whose network is gone there are none.
    """
    directory = RunDirectory(run)
    if not directory.samples.is_dir() or not directory.results.is_file():
        return
    recipe, results = directory.recipe(), Results.from_json(read_json(directory.results))
    for stage in range(len(results.steps) - 1):
        network = _network(directory, recipe, stage)
        for kind in results.kinds():
            for domain in results.domains:
                _predict(directory.samples, network, domain, stage, kind)


def _network(directory: RunDirectory, recipe: Recipe, stage: int) -> Path | None:
    """The network after a stage.

    Where another run trained the source, the one that this run started from.
    """
    name = recipe.steps[stage - 1].target.domain_name if stage else "source"
    iterations = recipe.steps[stage - 1].iterations if stage else recipe.source_training.iterations
    path = directory.model(stage, name, iterations)
    if not stage and not iterations and recipe.model.init is not None:
        try:
            path = find_file(recipe.model.init, recipe.root, "model.init")
        except MuhdiError:
            return None
    return path if path.is_file() and path.suffix == ".safetensors" else None


def _predict(samples: Path, network: Path | None, domain: str, stage: int, kind: str) -> None:
    """Predictions of one network on the samples of one domain."""
    predictor: Predictor | None = None
    for image in sample_images(samples.parent, domain):
        stem = image.name.removesuffix("_image.png")
        last, out = (
            samples / f"{stem}_predicted_{kind}.png",
            samples / after_name(stem, stage, kind),
        )
        if network is None or out.exists() or not last.exists():
            continue
        try:
            predictor = predictor or load(
                network, statistics=kind, domain=domain if kind == "domain" else None
            )
        except MuhdiError:  # no statistics of this domain yet, or a network of another layout
            return
        with Image.open(last) as shown, torch.no_grad():
            pixels = torch.from_numpy(read_image(image).copy()).permute(2, 0, 1)[None]
            logits = predictor.model.segment(
                pixels.to(next(predictor.parameters()).device), predictor.head
            )
            picture = Image.fromarray(classes_at(logits, shown.size[::-1])[0].cpu().numpy())
            picture.putpalette(predictor.classes.palette().flatten().tolist())
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        write_bytes(out, buffer.getvalue())
