"""Scoring of networks on one choice of domains, statistics and head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muhdi.data.domains import Domains
from muhdi.data.unlisted import UnlistedIds
from muhdi.errors import DataError, RecipeError
from muhdi.evaluation.domains import OnProgress, Row, Scored, evaluate_domains, measure_domain
from muhdi.evaluation.results import Results, absent_classes, best_row
from muhdi.evaluation.score_cache import ScoreCache
from muhdi.evaluation.scored_images import scored_images
from muhdi.files import sha256
from muhdi.models.checkpoint import Checkpoint, load_checkpoint, load_reference
from muhdi.models.ensemble import Ensemble, joint_statistics
from muhdi.models.inference import Network, check_head
from muhdi.recipe.evaluation import IN_WORDS
from muhdi.recipe.schema import Recipe
from muhdi.training.fabric import build_fabric
from muhdi.workflows.scored_networks import Networks

SCORING = 2
"""Changes with what scores mean, so that cached ones of an earlier meaning are not used.

2: a class that no label holds has no score.
"""


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


class Scorer:
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
