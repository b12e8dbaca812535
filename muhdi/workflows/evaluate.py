"""Score networks again: a run's, a file's, an ensemble, or the best of all snapshots."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muhdi.data.domains import Domains
from muhdi.data.paths import find_file
from muhdi.data.unlisted import UnlistedIds
from muhdi.deploy.find import network_file, refuse_exported
from muhdi.errors import DataError, RecipeError, check_type, nearest
from muhdi.evaluation.domains import OnProgress, Row, Scored, evaluate_domains, measure_domain
from muhdi.evaluation.results import Results, absent_classes, best_row
from muhdi.evaluation.score_cache import ScoreCache
from muhdi.evaluation.scored_images import scored_images
from muhdi.files import sha256
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, load_reference
from muhdi.models.ensemble import Ensemble, joint_statistics
from muhdi.models.inference import Network, check_head, unknown_statistics
from muhdi.models.outputs import AGNOSTIC
from muhdi.recipe.evaluation import IN_WORDS, STATISTICS
from muhdi.recipe.load import RECIPE, given_recipe, load_recipe, shipped_recipes
from muhdi.recipe.schema import Recipe
from muhdi.run.directory import RunDirectory
from muhdi.training.fabric import build_fabric

Networks = list[tuple[str, list[Path]]]
"""What is scored, by name: the files of one network, or those of an ensemble."""

SCORING = 2
"""Changes with what scores mean, so that cached ones of an earlier meaning are not used.

2: a class that no label holds has no score.
"""


def evaluate(  # noqa: PLR0913 - options by name
    what: Path | str | Recipe | Checkpoint,
    recipe: Path | str | Recipe | None = None,
    *,
    statistics: Sequence[str] = (),
    head: str = AGNOSTIC,
    weights: str | None = None,
    refresh: bool = False,
    experiments: Path | str | None = None,
    trust_code: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> Results:
    """Score networks on the domains of a recipe.

    Args:
        what: a run directory (its newest network), a network file (ours, or the reference's), a
            `Checkpoint`, or a recipe, whose section ``test`` says what is scored.
        recipe: with the domains, and how they are scored (its section ``evaluation``); None: that
            of the run, or ``what`` itself.
        statistics: that batch norms use, each for a table of its own; none: the recipe's choice.
        head: whose predictions are scored.
        weights: ``model``, ``ema`` for their average or ``teacher`` for the mean teacher's; None:
            the recipe's choice.
        refresh: measure every domain's statistics again from its training images, where they are,
            instead of using the stored ones, which grow stale as later steps move the weights.
        experiments: folder of ``snapshots`` with a recipe's run; None: the recipe says where.
        trust_code: whether classes of other packages, which a network or a run names, are imported.
        on_progress: called with the number of images that are scored, and of all, for each network.

    Returns:
        Results with one row per network; their ``notes`` are for the user.

    Raises:
        MuhdiError: the path or the recipe is wrong, or a network is of other classes or has no such
            head or statistics.
    """
    check_type("what", what, str, Path, Recipe, Checkpoint)
    check_type("recipe", recipe, str, Path, Recipe, type(None))
    check_type("weights", weights, str, type(None))
    how = How(_known_statistics(statistics), head, weights, refresh, trust_code, on_progress)
    if isinstance(what, Checkpoint):
        return _evaluate_checkpoint(what, recipe, experiments, how)
    if not isinstance(what, Recipe) and is_network(Path(what)):
        return _evaluate_path(Path(what), recipe, experiments, how)
    if recipe is not None:
        name = what.name if isinstance(what, Recipe) else checked_name(what)
        raise RecipeError(
            f"--recipe: {name} is a recipe itself; give the run directory or the network's file"
        )
    return _evaluate_recipe(what, experiments, how)


def evaluate_network(  # noqa: PLR0913 - options by name
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
    """`evaluate` as version 0.1 called it; returns the notes apart."""
    what, domains = read_arguments(path, recipe, settings, seed)
    results = evaluate(
        what,
        domains,
        statistics=kinds,
        head=head,
        refresh=refresh,
        experiments=experiments,
    )
    return results, results.notes


def read_arguments(
    path: Path | str,
    recipe: str | None,
    settings: Sequence[str],
    seed: int | None,
    *,
    trust_code: bool = False,
) -> tuple[Path | str | Recipe, Recipe | None]:
    """The first two arguments of `evaluate`, from what a command line gives.

    Args:
        path: a run directory, a network file, or a recipe.
        recipe: with the domains, of a run or a file.
        settings: ``key=value`` changes to the recipe.
        seed: of a recipe's run.
        trust_code: whether classes of other packages, which a run names, are imported.
    """
    if not is_network(Path(path)):
        name = checked_name(path)
        if recipe is not None:
            raise RecipeError(
                f"--recipe {recipe}: {name} is a recipe itself; give the run directory or the "
                "network's file"
            )
        return load_recipe(name, settings, seed, trust_code=trust_code or None), None
    refuse_exported(Path(path))
    if seed is not None:
        raise RecipeError(f"{path}: --seed finds the run of a recipe; this is a file or folder")
    own = _run_of(Path(path)) / RECIPE
    if recipe is not None:
        return path, load_recipe(recipe, settings, trust_code=trust_code or None)
    if own.is_file():
        return path, load_recipe(own, settings, trust_code=trust_code)
    return path, None


# --- what is to be scored -------------------------------------------------------------------------


@dataclass(frozen=True)
class How:
    """How networks are scored.

    Attributes:
        statistics: none: the recipe's choice.
        head: whose predictions are scored.
        weights: None: the recipe's choice.
        refresh: measure statistics again.
        trust_code: import foreign backbones.
        on_progress: called after every image.
    """

    statistics: list[str]
    head: str
    weights: str | None
    refresh: bool
    trust_code: bool
    on_progress: OnProgress


def _evaluate_checkpoint(
    checkpoint: Checkpoint,
    recipe: Path | str | Recipe | None,
    experiments: Path | str | None,
    how: How,
) -> Results:
    if recipe is None:
        raise RecipeError("recipe: is needed, since a checkpoint does not say its domains")
    if experiments is not None:
        raise RecipeError("experiments: finds the run of a recipe; this is a checkpoint itself")
    loaded = given_recipe(recipe, trust_code=how.trust_code)
    scorer = _Scorer(loaded, [], how)
    scorer.check("the checkpoint", checkpoint)
    return scorer.score_one("network", [checkpoint])


def _evaluate_path(
    path: Path,
    recipe: Path | str | Recipe | None,
    experiments: Path | str | None,
    how: How,
) -> Results:
    """Score a run's newest network, or a file."""
    if experiments is not None:
        raise RecipeError(
            f"{path}: --experiments and --seed find the run of a recipe; this is a file or folder "
            "itself"
        )
    networks, loaded = _of_path(path, recipe, trust_code=how.trust_code)
    return _Scorer(loaded, [], how).score(networks)


def _evaluate_recipe(
    recipe: Path | str | Recipe, experiments: Path | str | None, how: How
) -> Results:
    """Score what the recipe's section ``test`` says."""
    named = recipe if isinstance(recipe, Recipe) else checked_name(recipe)
    loaded = given_recipe(named, trust_code=how.trust_code)
    networks = _of_recipe(loaded, experiments)
    return _Scorer(loaded, _tested_domains(loaded), how).score(networks)


def _known_statistics(statistics: Sequence[str]) -> list[str]:
    """The choices, of which a single one may be given as it is."""
    check_type("statistics", statistics, Sequence)
    chosen = [statistics] if isinstance(statistics, str) else list(statistics)
    for name in chosen:
        if name not in (*STATISTICS, "none"):
            raise unknown_statistics(str(name), STATISTICS)
    return chosen


def is_network(path: Path) -> bool:
    """Whether a path is a run directory or a network file, and no recipe."""
    return path.exists() and path.suffix not in (".yml", ".yaml")


def checked_name(recipe: Path | str) -> str:
    """The name of a recipe, if it is at least like one."""
    if Path(recipe).suffix in (".yml", ".yaml") or str(recipe) in shipped_recipes():
        return str(recipe)
    hint = nearest(str(recipe), list(shipped_recipes()))
    raise RecipeError(f"{recipe}: no such run directory, network file or recipe{hint}")


def _run_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent.parent


def _of_path(
    path: Path, recipe: Path | str | Recipe | None, *, trust_code: bool
) -> tuple[Networks, Recipe]:
    """A run's newest network, or a file, and the recipe to score it by."""
    refuse_exported(path)
    network = network_file(path) if path.is_dir() else path
    networks: Networks = [(network.stem, [network])]
    if recipe is not None:
        return networks, given_recipe(recipe, trust_code=trust_code)
    own = _run_of(path) / RECIPE
    if not own.is_file():
        raise RecipeError(
            f"{path}: is not in a run directory; say with --recipe on which domains to evaluate it"
        )
    return networks, load_recipe(own, trust_code=trust_code)


def _of_recipe(recipe: Recipe, experiments: Path | str | None) -> Networks:
    test = recipe.test
    if test.models:
        files = [find_file(path, recipe.runtime.root, "test.models") for path in test.models]
        for file in files:
            refuse_exported(file)
        name = "ensemble" if len(files) > 1 else Path(test.models[0]).stem
        return [(name, files)]
    directory = RunDirectory.of(recipe, experiments)
    if test.mode == "last":
        return [(directory.last_model().stem, [directory.last_model()])]
    return _snapshots(recipe, directory)


def _snapshots(recipe: Recipe, directory: RunDirectory) -> Networks:
    """The snapshots of which the best is chosen, in the order of their training."""
    test = recipe.test
    folder = directory.folder
    if test.snapshots:
        folder = Path(os.path.expanduser(test.snapshots))
    of_reference = [
        file for file in folder.glob("model_*.pth") if re.fullmatch(r"model_[0-9]+", file.stem)
    ]
    files = [*RunDirectory(folder).models(), *sorted(of_reference, key=_iterations)]
    chosen: Networks = []
    for file in files:
        iterations = _iterations(file)
        late = test.until is not None and iterations > test.until
        if late or iterations % (test.every or 1):
            continue
        name = file.stem if file.parent == folder else f"{file.parent.name}/{file.stem}"
        chosen.append((name, [file]))
    if not chosen:
        advice = "train first, or set test.models to network files"
        if files:
            advice = "change test.every and test.until"
        raise DataError(f"{folder}: holds no snapshot to choose from; {advice}")
    return chosen


def _iterations(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def _tested_domains(recipe: Recipe) -> list[str]:
    """Names of the domains that the recipe tests on: its choice, or all but the source."""
    if recipe.test.domains:
        return recipe.test.domains
    names = [data.domain_name for _, data in recipe.domains()]
    return [name for name in names if name != recipe.source_name()] or names


def check_suits(name: str, checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Refuse a network that cannot be scored on the domains of a recipe.

    Args:
        name: of the network, for messages.
        checkpoint: the network.
        recipe: whose domains it is to see.

    Raises:
        DataError: it is of other classes.
        RecipeError: it takes images of other channels.
    """
    if checkpoint.classes != recipe.class_set().classes:
        raise DataError(
            f"{name}: its classes are not those of the recipe {recipe.name!r}; give the recipe it"
            " was made by"
        )
    channels = checkpoint.network.channels
    if channels != recipe.channels:
        raise RecipeError(
            f"{name}: takes images of {channels} channels, the recipe {recipe.name!r} has"
            f" channels: {recipe.channels}; give the run's own recipe"
        )


# --- scoring --------------------------------------------------------------------------------------


class _Scorer:
    """Scores networks on one choice of domains, statistics and head."""

    def __init__(self, recipe: Recipe, wanted: list[str], how: How) -> None:
        self.recipe = recipe
        self.how = how
        self.statistics = how.statistics or list(recipe.evaluation.statistics)
        self.weights = how.weights or recipe.evaluation.weights
        self.domains = Domains(recipe, training=False, only=wanted)
        self.device = build_fabric(recipe).device
        self.unlisted = UnlistedIds()

    def score(self, networks: Networks) -> Results:
        """Score files: one network, an ensemble, or several snapshots to choose from."""
        if len(networks) == 1:
            name, files = networks[0]
            weights = [sha256(file) for file in files]
            return self.score_one(name, [self._load(file) for file in files], weights)
        results = self._no_rows()
        best = self._score_all(networks, results)
        self._add_notes(results, best)
        return results

    def score_one(
        self, name: str, checkpoints: list[Checkpoint], weights: Sequence[str] = ()
    ) -> Results:
        """Score one network, or an ensemble."""
        results = self._no_rows()
        results.add(name, self._evaluate(checkpoints, self.unlisted), weights)
        self._add_notes(results, *self._other_weights(checkpoints))
        return results

    def _other_weights(self, checkpoints: list[Checkpoint]) -> list[str]:
        """A line if the recipe's weights are not those that the files name, and nobody chose."""
        named = {checkpoint.default_weights for checkpoint in checkpoints}
        if self.how.weights is not None or named == {self.weights}:
            return []
        return [
            f"scored with the weights that the recipe names ({self.weights}); predict and export"
            f" use what the file names ({', '.join(sorted(named))}): --weights chooses"
        ]

    def _add_notes(self, results: Results, *more: str) -> None:
        """What was scored, and what the user should know of the labels."""
        results.notes += [f"{name}: {images}" for name, images in results.scored.items()]
        if results.scored_weights in IN_WORDS:
            results.notes.append(f"scored with {IN_WORDS[results.scored_weights]}")
        if results.mean_over:
            results.notes.append(f"mIoU is the mean over {', '.join(results.mean_over)}")
        results.notes += absent_classes(results.steps[0]["scores"])
        results.notes += more
        results.notes += self.unlisted.report()

    def _no_rows(self) -> Results:
        recipe = self.recipe
        names = list(self.domains.validation)
        source = recipe.source_name()
        targets = [name for name in names if name != source]
        # There is no sequence, so every domain counts as adapted to in the first step.
        adapted_at = [1] * len(targets)
        results = Results(recipe.name, recipe.seed, source, names, targets, adapted_at)
        results.scored = scored_images(self.domains, recipe)
        results.mean_over = recipe.evaluation.mean_over
        results.default = recipe.evaluation.default_statistics
        results.scored_weights = self.weights
        results.notes = list(recipe.notes)
        return results

    def _score_all(self, networks: Networks, results: Results) -> str:
        """Score the snapshots that are new; returns a sentence that names the best one."""
        if not any(samples.with_labels for samples in self.domains.validation.values()):
            raise DataError(
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
                row = self._evaluate([self._load(file) for file in files], met)
                cache.put(key, row, met)
                self.unlisted.merge(met.files)
            results.add(name, row, [sha256(file) for file in files])
        best = results.steps[best_row(results, results.statistics[0])]["name"]
        return (
            f"{best} is the best of {len(networks)} snapshots, chosen by the validation labels of"
            f" {', '.join(results.domains)}; scores of unchanged snapshots are read from"
            f" {cache.path}"
        )

    def _evaluate(self, loaded: list[Checkpoint], unlisted: UnlistedIds) -> Row:
        checkpoints = [checkpoint.using(self.weights) for checkpoint in loaded]
        network: Network = checkpoints[0].network
        by_domain = dict(checkpoints[0].statistics)
        if len(checkpoints) > 1:
            weights = self.recipe.test.weights or [1.0] * len(checkpoints)
            network = Ensemble([checkpoint.network for checkpoint in checkpoints], weights)
            by_domain = joint_statistics([checkpoint.statistics for checkpoint in checkpoints])
        network.to(self.device)
        if self.how.refresh:
            for samples in self.domains.unlabelled():
                measured = measure_domain(network, samples, self.recipe, self.device)
                by_domain[samples.images.domain] = measured
        scored = Scored(network, by_domain, self.statistics, self.how.head)
        return evaluate_domains(scored, self.domains, self.recipe, unlisted, self.how.on_progress)

    def _load(self, file: Path) -> Checkpoint:
        if file.suffix == ".safetensors":
            checkpoint = load_checkpoint(file, trust_code=self.how.trust_code)
        else:
            classes = self.recipe.class_set().classes
            checkpoint = load_reference(file, classes, self.recipe.image_size)
        self.check(str(file), checkpoint)
        return checkpoint

    def check(self, name: str, checkpoint: Checkpoint) -> None:
        """Refuse a network that the recipe does not suit, or without the head."""
        check_suits(name, checkpoint, self.recipe)
        check_head(checkpoint.network, self.how.head)

    def _key(self, files: list[Path]) -> str:
        """Identifies a score: the networks' contents, and everything else that it depends on."""
        recipe = self.recipe
        keys = recipe.model_dump(
            mode="json", include={"evaluation", "image_size", "classes", "draft"}
        )
        sets = list(self.domains.validation.values())
        if self.how.refresh:
            sets += self.domains.unlabelled()
        data = [
            [samples.images.domain, samples.size, samples.images.fit, samples.images.fingerprint()]
            for samples in sets
        ]
        rest = json.dumps(
            [SCORING, keys, data, self.statistics, self.how.head, self.weights, self.how.refresh],
            sort_keys=True,
        )
        digest = hashlib.sha256(rest.encode())
        for file in files:
            digest.update(sha256(file).encode())
        return digest.hexdigest()
