"""Evaluating a finished run, or one of its networks, again: other statistics, another head, other data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from muhdi.config import Recipe
from muhdi.errors import MuhdiError
from muhdi.evaluation.results import Results
from muhdi.models.segmenter import AGNOSTIC
from muhdi.models.statistics import measure_statistics
from muhdi.models.weights import load_checkpoint
from muhdi.recipe import load_recipe
from muhdi.training.domains import Domains, UnlistedIds
from muhdi.training.measure import build_fabric, evaluate_domains, image_batches
from muhdi.training.rundir import RECIPE, RunDirectory


def evaluate_network(
    path: Path | str,
    *,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    kinds: Sequence[str] = (),
    head: str = AGNOSTIC,
    refresh: bool = False,
) -> tuple[Results, list[str]]:
    """Score a network on every domain of a recipe.

    Args:
        path: a run directory (its last network is taken) or a network file.
        recipe: file or name; None: the recipe of the run that the network lies in.
        settings: ``key=value`` changes to the recipe.
        kinds: of statistics; none: the recipe's.
        head: which head's predictions are scored.
        refresh: measure every domain's statistics anew from its training images, where they are, instead of using the
            stored ones, which grow stale as later steps move the weights.

    Returns:
        Results with one row, and notes for the user (unlisted raw ids).

    Raises:
        MuhdiError: the path or the recipe is wrong, or the network is of other classes or has no such head.
    """
    network, loaded = _find(Path(path), recipe, settings)
    checkpoint = load_checkpoint(network)
    if checkpoint.classes != loaded.class_set().classes:
        raise MuhdiError(
            f"{network}: its classes are not those of the recipe {loaded.name!r}; give the recipe it was made by"
        )
    if head not in checkpoint.model.heads:
        raise MuhdiError(f"--head {head}: the network has the heads {', '.join(checkpoint.model.heads)}")
    domains = Domains(loaded, training=False)
    device = build_fabric(loaded).device
    checkpoint.model.to(device)
    if refresh:
        for samples in domains.unlabelled():
            images = image_batches(samples, loaded, device)
            checkpoint.statistics[samples.images.domain] = measure_statistics(checkpoint.model, images)
    unlisted = UnlistedIds()
    names = list(domains.validation)
    source = loaded.source_name()
    results = Results(loaded.name, loaded.seed, source, names, [n for n in names if n != source], [])
    results.learnt = [1] * len(results.targets)
    chosen = list(kinds) or loaded.evaluation.statistics
    results.add(network.stem, evaluate_domains(loaded, checkpoint, domains, chosen, unlisted, head))
    return results, unlisted.report()


def _find(path: Path, recipe: str | None, settings: Sequence[str]) -> tuple[Path, Recipe]:
    """The network file and the recipe to score it by."""
    if path.is_dir():
        network, folder = RunDirectory(path).last_model(), path
    elif path.is_file():
        network, folder = path, path.parent.parent
    else:
        raise MuhdiError(f"{path}: no such run directory or network file")
    if recipe is None and not (folder / RECIPE).is_file():
        raise MuhdiError(f"{path}: lies in no run directory; say with --recipe on which domains to evaluate it")
    return network, load_recipe(recipe or folder / RECIPE, settings)
