"""Evaluating networks again: a run, a file, an ensemble, or the best of all snapshots.

Other statistics, other data.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from muhdi.data.domains import Domains
from muhdi.data.paths import find_file
from muhdi.data.unlisted import UnlistedIds
from muhdi.errors import MuhdiError, nearest
from muhdi.evaluation.domains import evaluate_domains, image_batches
from muhdi.evaluation.predict import Network
from muhdi.evaluation.results import Entry, Results, best_row
from muhdi.evaluation.score_cache import ScoreCache
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, load_reference
from muhdi.models.ensemble import Ensemble, joint_statistics
from muhdi.models.segmenter import AGNOSTIC
from muhdi.models.statistics import measure_statistics
from muhdi.recipe.load import load_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RECIPE, RunDirectory
from muhdi.training.fabric import build_fabric

Networks = list[tuple[str, list[Path]]]
"""What is scored, by name: the files of one network, or those of an ensemble."""


def evaluate_network(
    path: Path | str,
    *,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    kinds: Sequence[str] = (),
    head: str = AGNOSTIC,
    refresh: bool = False,
    experiments: Path | str | None = None,
    seed: int | None = None,
) -> tuple[Results, list[str]]:
    """Score networks on the domains of a recipe.

    Args:
        path: a run directory (its newest network is taken), a network file (ours, or the
            reference's), or a recipe, whose part ``test`` says what is scored.
        recipe: file or name of the recipe with the domains; None: that of the run, or ``path``
            itself.
        settings: ``key=value`` changes to the recipe.
        kinds: of statistics; none: the recipe's.
        head: which head's predictions are scored.
        refresh: measure every domain's statistics anew from its training images, where they are,
            instead of using the stored ones, which grow stale as later steps move the weights.
        experiments: folder of ``snapshots``, where the recipe's run is; None: the recipe says
            where.
        seed: of the recipe's run.

    Returns:
        Results with one row per network, and notes for the user.

    Raises:
        MuhdiError: the path or the recipe is wrong, or a network is of other classes or has no such
            head.
    """
    path = Path(path)
    if path.exists() and path.suffix not in (".yml", ".yaml"):
        if experiments is not None or seed is not None:
            raise MuhdiError(
                f"{path}: --experiments and --seed find the run of a recipe; this is a file or"
                " folder itself"
            )
        networks, loaded = _of_path(path, recipe, settings)
        return _Scorer(loaded, [], list(kinds), head, refresh).score(networks)
    _check_is_something(path)
    if recipe is not None:
        raise MuhdiError(
            f"--recipe {recipe}: {path} is a recipe itself; give the run directory or the network's"
            " file"
        )
    loaded = load_recipe(str(path), settings, seed)
    return evaluate_recipe(loaded, experiments=experiments, kinds=kinds, head=head, refresh=refresh)


def evaluate_recipe(
    recipe: Recipe,
    *,
    experiments: Path | str | None = None,
    kinds: Sequence[str] = (),
    head: str = AGNOSTIC,
    refresh: bool = False,
) -> tuple[Results, list[str]]:
    """Score what the recipe's part ``test`` says; see `evaluate_network`."""
    networks = _of_recipe(recipe, experiments)
    return _Scorer(recipe, _tested_domains(recipe), list(kinds), head, refresh).score(networks)


# --- what is to be scored -------------------------------------------------------------------------


def _check_is_something(path: Path) -> None:
    if path.suffix in (".yml", ".yaml") or str(path) in shipped_recipes():
        return
    hint = nearest(str(path), list(shipped_recipes()))
    raise MuhdiError(f"{path}: no such run directory, network file or recipe{hint}")


def _of_path(path: Path, recipe: str | None, settings: Sequence[str]) -> tuple[Networks, Recipe]:
    """A run's newest network, or a file, and the recipe to score it by."""
    network, folder = (
        (RunDirectory(path).last_model(), path) if path.is_dir() else (path, path.parent.parent)
    )
    if recipe is None and not (folder / RECIPE).is_file():
        raise MuhdiError(
            f"{path}: lies in no run directory; say with --recipe on which domains to evaluate it"
        )
    return [(network.stem, [network])], load_recipe(recipe or folder / RECIPE, settings)


def _of_recipe(recipe: Recipe, experiments: Path | str | None) -> Networks:
    test = recipe.test
    if test.models:
        return [("ensemble" if len(test.models) > 1 else Path(test.models[0]).stem,
                 [find_file(path, recipe.root, "test.models") for path in test.models])]  # fmt: skip
    directory = RunDirectory.of(recipe, experiments)
    if test.mode == "last":
        return [(directory.last_model().stem, [directory.last_model()])]
    folder = Path(os.path.expanduser(test.snapshots)) if test.snapshots else directory.folder
    theirs = [
        file for file in folder.glob("model_*.pth") if re.fullmatch(r"model_[0-9]+", file.stem)
    ]
    files = [*RunDirectory(folder).models(), *sorted(theirs, key=_iterations)]
    chosen = [
        file
        for file in files
        if _iterations(file) % (test.every or 1) == 0
        and _iterations(file) <= (test.until or _iterations(file))
    ]
    if not chosen:
        advice = (
            "change test.every and test.until"
            if files
            else "train first, or set test.models to network files"
        )
        raise MuhdiError(f"{folder}: holds no snapshot to choose from; {advice}")
    return [
        (f"{file.parent.name}/{file.stem}" if file.parent != folder else file.stem, [file])
        for file in chosen
    ]


def _iterations(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def _tested_domains(recipe: Recipe) -> list[str]:
    """Names of the domains that the recipe tests on: its choice, or all but the source."""
    if recipe.test.domains:
        return recipe.test.domains
    names = [data.domain_name for _, data in recipe.domains()]
    return [name for name in names if name != recipe.source_name()] or names


# --- scoring --------------------------------------------------------------------------------------


class _Scorer:
    """Scores networks on one choice of domains, statistics and head."""

    def __init__(
        self, recipe: Recipe, wanted: list[str], kinds: list[str], head: str, refresh: bool
    ) -> None:
        self.recipe, self.head, self.refresh = recipe, head, refresh
        self.kinds = kinds or list(recipe.evaluation.statistics)
        self.domains = Domains(recipe, training=False, only=wanted)
        self.device = build_fabric(recipe).device
        self.unlisted = UnlistedIds()

    def score(self, networks: Networks) -> tuple[Results, list[str]]:
        names = list(self.domains.validation)
        source = self.recipe.source_name()
        results = Results(
            self.recipe.name, self.recipe.seed, source, names, [n for n in names if n != source], []
        )
        results.learnt = [1] * len(results.targets)
        notes = list(self.recipe.notes)
        if len(networks) > 1:
            notes.append(self._score_all(networks, results))
        else:
            results.add(networks[0][0], self._evaluate(networks[0][1]))
        return results, notes + self.unlisted.report()

    def _score_all(self, networks: Networks, results: Results) -> str:
        """Score snapshots to choose from, those that are new; returns the choice in words."""
        if not any(samples.with_labels for samples in self.domains.validation.values()):
            raise MuhdiError(
                "test.mode: best chooses by validation labels, but"
                f" {', '.join(self.domains.validation)} has none; set test.mode: last, or"
                " test.domains to a domain with labels"
            )
        cache = ScoreCache(networks[0][1][0].parent)
        for name, files in networks:
            key = self._key(files)
            if cache.has(key):
                row = cache.row(key, self.unlisted)
            else:
                met = UnlistedIds()
                row = self._evaluate(files, met)
                cache.put(key, row, met)
                self.unlisted.merge(met.files)
            results.add(name, row)
        best = results.steps[best_row(results, self.kinds[0])]["name"]
        return (
            f"{best} is the best of {len(networks)} snapshots, chosen by the validation labels of"
            f" {', '.join(results.domains)}; scores of unchanged snapshots are read from"
            f" {cache.path}"
        )

    def _evaluate(
        self, files: list[Path], unlisted: UnlistedIds | None = None
    ) -> dict[str, dict[str, Entry]]:
        each = [self._load(file) for file in files]
        model: Network = each[0].model
        statistics = each[0].statistics
        if len(each) > 1:
            weights = self.recipe.test.weights or [1.0] * len(each)
            model = Ensemble([checkpoint.model for checkpoint in each], weights)
            statistics = joint_statistics([checkpoint.statistics for checkpoint in each])
        model.to(self.device)
        if self.refresh:
            for samples in self.domains.unlabelled():
                images = image_batches(samples, self.recipe, self.device)
                statistics[samples.images.domain] = measure_statistics(model, images)
        met = self.unlisted if unlisted is None else unlisted
        return evaluate_domains(
            self.recipe, model, statistics, self.domains, self.kinds, met, self.head
        )

    def _load(self, file: Path) -> Checkpoint:
        classes = self.recipe.class_set().classes
        if file.suffix == ".safetensors":
            checkpoint = load_checkpoint(file)
        else:
            checkpoint = load_reference(file, classes, self.recipe.image_size)
        if checkpoint.classes != classes:
            raise MuhdiError(
                f"{file}: its classes are not those of the recipe {self.recipe.name!r}; give the"
                " recipe it was made by"
            )
        if self.head not in checkpoint.model.heads:
            raise MuhdiError(
                f"--head {self.head}: the network has the heads {', '.join(checkpoint.model.heads)}"
            )
        return checkpoint

    def _key(self, files: list[Path]) -> str:
        """Identifies a score: the networks' contents, and all that it depends on beside them."""
        recipe = self.recipe
        said = recipe.model_dump(
            mode="json", include={"evaluation", "image_size", "classes", "precision"}
        )
        data = {
            name: [samples.size, samples.images.fingerprint()]
            for name, samples in self.domains.validation.items()
        }
        rest = json.dumps([said, data, self.kinds, self.head, self.refresh], sort_keys=True)
        digest = hashlib.sha256(rest.encode())
        for file in files:
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()
