"""What an adaptation changed: the old and the new network on images of every domain, no labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muhdi.data.domains import Domains
from muhdi.deploy.find import device_of
from muhdi.deploy.predictor import Predictor
from muhdi.evaluation.domains import Scored, image_batches
from muhdi.files import write_json
from muhdi.losses import entropy
from muhdi.models.checkpoint import load_checkpoint
from muhdi.recipe.schema import Recipe


def record_change(recipe: Recipe, before: Path, after: Path, path: Path) -> None:
    """Write how the predictions on every domain have changed.

    The file has a row per choice of statistics and domain: ``images``, ``confidence`` (mean
    probability of the most likely class) and ``entropy`` (normalised, 0: certain), ``_before`` and
    ``_after``, and ``agreement`` (pixels of the same class), in percent. What cannot be measured,
    because a network has no statistics of the domain, is left out.

    Args:
        recipe: its domains and its choices of statistics are measured.
        before: the old network's file.
        after: the new network's file.
        path: of the file to write.
    """
    device = device_of("auto")
    old = load_checkpoint(before, trust_code=True).network
    choices = Scored(old, statistics=recipe.evaluation.statistics).rows
    rows: list[dict[str, Any]] = []
    for statistics in choices:
        for name, samples in Domains(recipe, training=False).validation.items():
            pair = [_predictor(file, statistics, name) for file in (before, after)]
            batches = image_batches(samples, recipe, device)
            rows.append({"statistics": statistics, "domain": name, **_change(pair, batches)})
    write_json(path, rows)


@torch.no_grad()
def _change(pair: Sequence[Predictor | None], batches: Iterable[Tensor]) -> dict[str, float]:
    """The measures of one domain.

    Args:
        pair: the old and the new network; None where one has no statistics of the domain.
        batches: images, uint8 [N, 3, H, W].
    """
    totals: dict[str, float] = defaultdict(float)
    images = 0
    for batch in batches:
        count = len(batch)
        images += count
        classes = []
        for moment, predictor in zip(("before", "after"), pair, strict=True):
            if predictor is None:
                continue
            probabilities = predictor(batch).softmax(1)
            totals[f"confidence_{moment}"] += count * float(probabilities.amax(1).mean())
            totals[f"entropy_{moment}"] += count * float(entropy(probabilities))
            classes.append(probabilities.argmax(1))
        if len(classes) == 2:
            totals["agreement"] += count * float((classes[0] == classes[1]).float().mean())
    measures = {key: round(100 * total / images, 4) for key, total in totals.items()}
    return {"images": images, **measures}


def _predictor(network: Path, statistics: str, domain: str) -> Predictor | None:
    """A network with one choice of statistics; None if it has none of this domain."""
    if statistics != "domain":
        return Predictor.load(network, statistics=statistics, trust_code=True)
    if domain not in load_checkpoint(network, trust_code=True).statistics:
        return None
    return Predictor.load(network, statistics=statistics, domain=domain, trust_code=True)
