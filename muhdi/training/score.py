"""Evaluating networks again: a run, a file, an ensemble, or the best of all snapshots; other statistics, other data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from muhdi.config import Recipe
from muhdi.data.finding import find_file
from muhdi.errors import MuhdiError, nearest
from muhdi.evaluation.evaluate import Network
from muhdi.evaluation.results import Entry, Results, best_row
from muhdi.files import read_json, write_json
from muhdi.models.ensemble import Ensemble, joint_statistics
from muhdi.models.segmenter import AGNOSTIC
from muhdi.models.statistics import measure_statistics
from muhdi.models.weights import Checkpoint, load_checkpoint, load_reference
from muhdi.recipe import load_recipe, shipped_recipes
from muhdi.training.domains import Domains, UnlistedIds
from muhdi.training.measure import build_fabric, evaluate_domains, image_batches
from muhdi.training.rundir import RECIPE, RunDirectory

SCORES = "scores.json"
"""Cache of the snapshots' scores, in the folder that holds them."""

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
        path: a run directory (its newest network is taken), a network file (ours, or the reference's), or a recipe,
            whose part ``test`` says what is scored.
        recipe: file or name of the recipe with the domains; None: that of the run, or ``path`` itself.
        settings: ``key=value`` changes to the recipe.
        kinds: of statistics; none: the recipe's.
        head: which head's predictions are scored.
        refresh: measure every domain's statistics anew from its training images, where they are, instead of using the
            stored ones, which grow stale as later steps move the weights.
        experiments: folder of ``snapshots``, where the recipe's run is; None: the recipe says where.
        seed: of the recipe's run.

    Returns:
        Results with one row per network, and notes for the user.

    Raises:
        MuhdiError: the path or the recipe is wrong, or a network is of other classes or has no such head.
    """
    path = Path(path)
    if path.exists() and path.suffix not in (".yml", ".yaml"):
        networks, loaded = _of_path(path, recipe, settings, seed)
        return _Scorer(loaded, [], list(kinds), head, refresh).score(networks)
    _check_is_something(path)
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


# --- what is to be scored -------------------------------------------------------------------------------------------


def _check_is_something(path: Path) -> None:
    if path.suffix in (".yml", ".yaml") or str(path) in shipped_recipes():
        return
    hint = nearest(str(path), list(shipped_recipes()))
    raise MuhdiError(f"{path}: no such run directory, network file or recipe{hint}")


def _of_path(path: Path, recipe: str | None, settings: Sequence[str], seed: int | None) -> tuple[Networks, Recipe]:
    """A run's newest network, or a file, and the recipe to score it by."""
    network, folder = (RunDirectory(path).last_model(), path) if path.is_dir() else (path, path.parent.parent)
    if recipe is None and not (folder / RECIPE).is_file():
        raise MuhdiError(f"{path}: lies in no run directory; say with --recipe on which domains to evaluate it")
    return [(network.stem, [network])], load_recipe(recipe or folder / RECIPE, settings, seed)


def _of_recipe(recipe: Recipe, experiments: Path | str | None) -> Networks:
    test = recipe.test
    if test.models:
        return [("ensemble" if len(test.models) > 1 else Path(test.models[0]).stem,
                 [find_file(path, recipe.root, "test.models") for path in test.models])]  # fmt: skip
    directory = RunDirectory.of(recipe, experiments)
    if test.mode == "last":
        return [(directory.last_model().stem, [directory.last_model()])]
    folder = Path(test.snapshots).expanduser() if test.snapshots else directory.folder
    files = [*RunDirectory(folder).models(), *sorted(folder.glob("model_*.pth"), key=_iterations)]
    chosen = [
        file
        for file in files
        if _iterations(file) % (test.every or 1) == 0 and _iterations(file) <= (test.until or _iterations(file))
    ]
    if not chosen:
        raise MuhdiError(
            f"{folder}: holds no snapshot to choose from; train first, or set test.models to network files"
        )
    return [(f"{file.parent.name}/{file.stem}" if file.parent != folder else file.stem, [file]) for file in chosen]


def _iterations(file: Path) -> int:
    digits = file.stem.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def _tested_domains(recipe: Recipe) -> list[str]:
    """Names of the domains that the recipe tests on: its choice, or all but the source."""
    if recipe.test.domains:
        return recipe.test.domains
    names = [data.domain_name for _, data in recipe.domains()]
    return [name for name in names if name != recipe.source_name()] or names


# --- scoring --------------------------------------------------------------------------------------------------------


class _Scorer:
    """Scores networks on one choice of domains, statistics and head."""

    def __init__(self, recipe: Recipe, wanted: list[str], kinds: list[str], head: str, refresh: bool) -> None:
        self.recipe, self.head, self.refresh = recipe, head, refresh
        self.kinds = kinds or list(recipe.evaluation.statistics)
        self.domains = Domains(recipe, training=False, only=wanted)
        self.device = build_fabric(recipe).device
        self.unlisted = UnlistedIds()

    def score(self, networks: Networks) -> tuple[Results, list[str]]:
        names = list(self.domains.validation)
        source = self.recipe.source_name()
        results = Results(self.recipe.name, self.recipe.seed, source, names, [n for n in names if n != source], [])
        results.learnt = [1] * len(results.targets)
        notes = list(self.recipe.notes)
        cache = _Cache(networks[0][1][0].parent) if len(networks) > 1 else None
        for name, files in networks:
            key = self._key(files)
            known = cache.get(key) if cache is not None else None
            row = self._evaluate(files) if known is None else known
            if cache is not None and known is None:
                cache.put(key, row)
            results.add(name, row)
        if cache is not None:
            best = results.steps[best_row(results, self.kinds[0])]["name"]
            chosen = f"{best} is the best of {len(networks)} snapshots, chosen by the validation labels of"
            notes.append(f"{chosen} {', '.join(names)}; scores of unchanged snapshots are read from {cache.path}")
        return results, notes + self.unlisted.report()

    def _evaluate(self, files: list[Path]) -> dict[str, dict[str, Entry]]:
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
        return evaluate_domains(self.recipe, model, statistics, self.domains, self.kinds, self.unlisted, self.head)

    def _load(self, file: Path) -> Checkpoint:
        classes = self.recipe.class_set().classes
        if file.suffix == ".safetensors":
            checkpoint = load_checkpoint(file)
        else:
            checkpoint = load_reference(file, classes, self.recipe.image_size)
        if checkpoint.classes != classes:
            raise MuhdiError(
                f"{file}: its classes are not those of the recipe {self.recipe.name!r}; give the recipe it was made by"
            )
        if self.head not in checkpoint.model.heads:
            raise MuhdiError(f"--head {self.head}: the network has the heads {', '.join(checkpoint.model.heads)}")
        return checkpoint

    def _key(self, files: list[Path]) -> str:
        """Identifies a score: the networks' contents, and all that it depends on beside them."""
        recipe = self.recipe
        parts = {"evaluation", "image_size", "classes", "precision", "root"}
        said = recipe.model_dump(mode="json", include=parts)
        domains = {name: len(samples) for name, samples in self.domains.validation.items()}
        data = [data.model_dump(mode="json") for _, data in recipe.domains() if data.domain_name in domains]
        rest = json.dumps([said, domains, data, self.kinds, self.head, self.refresh], sort_keys=True)
        digest = hashlib.sha256(rest.encode())
        for file in files:
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


class _Cache:
    """Scores by what they depend on, in a file beside the snapshots."""

    def __init__(self, folder: Path) -> None:
        run = folder.parent if (folder.parent / RECIPE).is_file() else folder
        self.path = run / SCORES
        self.rows: dict[str, dict[str, dict[str, Entry]]] = read_json(self.path) if self.path.exists() else {}

    def get(self, key: str) -> dict[str, dict[str, Entry]] | None:
        """The scores of a key, if it was scored before."""
        return self.rows.get(key)

    def put(self, key: str, row: dict[str, dict[str, Entry]]) -> None:
        """Remember scores at once, so that nothing is lost when the rest is interrupted."""
        self.rows[key] = row
        write_json(self.path, self.rows)
