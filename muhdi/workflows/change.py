"""What an adaptation changed: the old and the new network on images of every domain, no labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muhdi.data.domains import Domains
from muhdi.evaluation.domains import Scored, image_batches
from muhdi.evaluation.samples import as_scored, network_after
from muhdi.evaluation.views import Views, probabilities_of
from muhdi.files import write_json
from muhdi.losses import entropy
from muhdi.models.checkpoint import load_checkpoint
from muhdi.models.inference import Inference
from muhdi.recipe.schema import Recipe
from muhdi.report.run_files import CHANGE
from muhdi.run.directory import RunDirectory
from muhdi.training.fabric import build_fabric


def record_run_change(directory: RunDirectory, recipe: Recipe) -> None:
    """Write what the steps of a finished run changed: from the source's network to the last one.

    A run without steps, or whose networks are gone, has nothing to compare; one that was recorded
    already is left as it is.

    Args:
        directory: of the run.
        recipe: of the run, with whatever classes of other packages it names.
    """
    path = directory.folder / CHANGE
    before = network_after(directory, recipe, 0)
    after = network_after(directory, recipe, len(recipe.steps))
    if not recipe.steps or path.exists() or before is None or after is None:
        return
    record_change(recipe, before, after, path)


def record_change(recipe: Recipe, before: Path, after: Path, path: Path) -> None:
    """Write how the predictions on every domain have changed.

    The file has a row per choice of statistics and domain: ``images``, ``confidence`` (mean
    probability of the most likely class) and ``entropy`` (normalised, 0: certain), ``_before`` and
    ``_after``, ``agreement`` (pixels of the same class), and ``shares_before`` and
    ``shares_after`` (pixels predicted as each class, in the order of the classes), in percent. What
    cannot be measured, because a network has no statistics of the domain, is left out.

    Args:
        recipe: its domains and its choices of statistics are measured, on its device.
        before: the old network's file.
        after: the new network's file.
        path: of the file to write.
    """
    device = build_fabric(recipe).device
    pair = [scored_file(file, recipe, device) for file in (before, after)]
    validation = Domains(recipe, training=False).validation
    rows: list[dict[str, Any]] = []
    for statistics in pair[0].rows:
        for name, samples in validation.items():
            inferences = [scored.inference(statistics, name) for scored in pair]
            batches = image_batches(samples, recipe, device)
            measures = _change(inferences, batches, Views.of(recipe.evaluation))
            rows.append({"statistics": statistics, "domain": name, **measures})
    write_json(path, rows)


def scored_file(file: Path, recipe: Recipe, device: torch.device) -> Scored:
    """A network, which is read once, with the recipe's choices of statistics."""
    checkpoint = as_scored(load_checkpoint(file, trust_code=True), recipe)
    network = checkpoint.network.to(device)
    return Scored(network, checkpoint.statistics, recipe.evaluation.statistics)


@torch.no_grad()
def _change(
    pair: Sequence[Inference | None], batches: Iterable[Tensor], views: Views
) -> dict[str, Any]:
    """The measures of one domain.

    Args:
        pair: the old and the new network; None where one has no statistics of the domain.
        batches: images, uint8 [N, 3, H, W].
        views: by which they are predicted.
    """
    totals: dict[str, float] = defaultdict(float)
    pixels: dict[str, Tensor] = {}
    images = 0
    for batch in batches:
        count = len(batch)
        images += count
        sizes = [(batch.shape[-2], batch.shape[-1])] * count
        classes = []
        for moment, inference in zip(("before", "after"), pair, strict=True):
            if inference is None:
                continue
            predicted = []
            # One image after another: whole maps of probabilities are large.
            for own in probabilities_of(inference, batch, sizes, views):
                totals[f"confidence_{moment}"] += float(own.amax(0).mean())
                totals[f"entropy_{moment}"] += float(entropy(own[None]))
                predicted.append(own.argmax(0))
                counts = predicted[-1].flatten().bincount(minlength=len(own))
                pixels[moment] = pixels.get(moment, 0) + counts
            classes.append(torch.stack(predicted))
        if len(classes) == 2:
            totals["agreement"] += count * float((classes[0] == classes[1]).float().mean())
    measures: dict[str, Any] = {
        key: round(100 * total / images, 4) for key, total in totals.items()
    }
    for moment, counts in pixels.items():
        shares = 100 * counts.double() / counts.sum()
        measures[f"shares_{moment}"] = [round(share, 4) for share in shares.tolist()]
    return {"images": images, **measures}
