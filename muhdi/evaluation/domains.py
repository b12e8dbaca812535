"""Measuring a network on the domains of a recipe: their statistics, and its scores on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from muhdi import distributed
from muhdi.data.arrays import images_tensor
from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.data.sets import Sample, spread_indices
from muhdi.data.unlisted import UnlistedIds
from muhdi.evaluation.label_free import Observer
from muhdi.evaluation.predict import evaluate_domain
from muhdi.evaluation.results import Entry, scores, without_score
from muhdi.evaluation.views import Views, classes_of
from muhdi.models.inference import Inference, Network
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.statistics import STORED, Statistics, measure_statistics, pool_statistics
from muhdi.recipe.evaluation import check_scales
from muhdi.recipe.schema import Recipe

Row = dict[str, dict[str, Entry]]
"""Scores by statistics and domain."""


@dataclass(frozen=True)
class Scored:
    """A network and how it is scored.

    Attributes:
        network: to score.
        by_domain: stored normalisation statistics.
        statistics: what batch norms use, one row of scores each; a network without batch norms is
            scored once, whatever the choice.
        head: whose predictions are scored.
    """

    network: Network
    by_domain: Mapping[str, Statistics] = field(default_factory=dict)
    statistics: Sequence[str] = ("running",)
    head: str = AGNOSTIC
    _made: dict[str, Inference] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def rows(self) -> list[str]:
        """The statistics that the network can use, of those that are asked for."""
        if tuple(self.network.statistics_choices) == ("none",):
            return ["none"]
        return list(self.statistics)

    def inference(self, statistics: str, domain: str) -> Inference | None:
        """The network with one choice of statistics; None if those were never measured.

        What is the same for every domain is made once.
        """
        if statistics in self._made:
            return self._made[statistics]
        stored = None
        if statistics == "domain":
            stored = self.by_domain.get(domain)
        elif statistics == "pooled" and self.by_domain:
            stored = pool_statistics(self.by_domain.values())
        if stored is None and statistics in STORED:
            return None
        made = Inference(self.network, self.head, statistics, stored)
        if statistics != "domain":
            self._made[statistics] = made
        return made


def image_batches(samples: PreparedSet, recipe: Recipe, device: torch.device) -> Iterator[Tensor]:
    """``evaluation.domain_images`` images, evenly spread, in batches [N, 3, H, W] of one size.

    With several processes, each yields every n-th batch.
    """
    chosen = spread_indices(len(samples), recipe.evaluation.domain_images)
    size = recipe.evaluation.batch_size
    stride = distributed.world_size() * size
    for start in range(distributed.rank() * size, len(chosen), stride):
        batch = [samples[index].image for index in chosen[start : start + size]]
        for _, same_size in groupby(batch, key=np.shape):
            yield images_tensor(list(same_size), device)


def measure_domain(
    network: Network, samples: PreparedSet, recipe: Recipe, device: torch.device
) -> Statistics:
    """The normalisation statistics of a domain; empty for a network without batch norms."""
    return measure_statistics(network, image_batches(samples, recipe, device))


OnProgress = Callable[[int, int], None]
"""Called with the number of items that are done, and of all."""


def evaluate_domains(
    scored: Scored,
    domains: Domains,
    recipe: Recipe,
    unlisted: UnlistedIds,
    on_progress: OnProgress = lambda done, total: None,
    *,
    previous: Scored | None = None,
) -> Row:
    """Scores by statistics and domain.

    A domain without labels has the scores that need none, of at most ``evaluation.domain_images``
    images; one without the statistics asked for has a reason instead.

    Args:
        scored: the network.
        domains: of which the evaluation's images are scored.
        recipe: says at which size, and by which views.
        unlisted: counts what labels hold that no table lists.
        on_progress: called with the number of images that this process has scored, and of all.
        previous: what the stage before has left, with which predictions are compared where
            ``evaluation.agreement`` says so.
    """
    row: Row = {}
    shown = sum(shown_images(samples, recipe) for samples in domains.validation.values())
    watched = _Watched(unlisted, on_progress, len(scored.rows) * shown)
    for statistics in scored.rows:
        row[statistics] = {}
        for domain, samples in domains.validation.items():
            inference = scored.inference(statistics, domain)
            before = None if previous is None else previous.inference(statistics, domain)
            row[statistics][domain] = _entry(inference, before, samples, recipe, watched)
    return row


def score_domain(
    scored: Scored,
    statistics: str,
    samples: PreparedSet,
    recipe: Recipe,
    previous: Scored | None = None,
) -> Entry:
    """`evaluate_domains` of a single domain, with one of the network's choices of statistics."""
    domain = samples.images.domain
    inference = scored.inference(statistics, domain)
    before = None if previous is None else previous.inference(statistics, domain)
    watched = _Watched(UnlistedIds(), lambda done, total: None, len(samples))
    return _entry(inference, before, samples, recipe, watched)


def shown_images(samples: PreparedSet, recipe: Recipe) -> int:
    """How many images of a domain are scored."""
    if samples.with_labels:
        return len(samples)
    return min(len(samples), recipe.evaluation.domain_images)


def _entry(
    inference: Inference | None,
    previous: Inference | None,
    samples: PreparedSet,
    recipe: Recipe,
    watched: _Watched,
) -> Entry:
    if inference is None:
        return without_score("no statistics" if samples.with_labels else "unlabelled")
    classes = recipe.class_set().classes
    compared = recipe.evaluation.compares(labelled=samples.with_labels)
    observer = Observer(len(classes), mirror=compared, previous=previous if compared else None)
    with observer.watching(inference):
        entry = _watched_entry(inference, samples, recipe, watched)
    entry["label_free"] = observer.scores(classes, shown_images(samples, recipe))
    return entry


def _watched_entry(
    inference: Inference, samples: PreparedSet, recipe: Recipe, watched: _Watched
) -> Entry:
    """The scores that need labels, or the reason why there are none; all images are shown."""
    if not samples.with_labels:
        _show(inference, samples, recipe, watched)
        return without_score("unlabelled")
    confusion = evaluate_domain(
        inference,
        samples,
        size=recipe.evaluation.size,
        views=Views.of(recipe.evaluation),
        on_sample=partial(watched.count, samples.images.domain),
    )
    classes = recipe.class_set().classes
    return scores(confusion, classes, len(samples), recipe.evaluation.mean_over)


@torch.no_grad()
def _show(inference: Inference, samples: PreparedSet, recipe: Recipe, watched: _Watched) -> None:
    """Show a domain's images to a network that is observed; the processes share them."""
    views = Views.of(recipe.evaluation)
    with distributed.fail_together():
        for batch in image_batches(samples, recipe, inference.device):
            sides = (batch.shape[-2], batch.shape[-1])
            check_scales(samples.images.domain, sides[::-1], views.scales)
            if views.look_once(sides):
                inference(batch)
            else:
                classes_of(inference, batch, [sides] * len(batch), views)
            watched.advance(len(batch))


@dataclass
class _Watched:
    """What is seen of the images that are scored.

    Attributes:
        unlisted: raw ids that no table lists.
        on_progress: called after every image.
        total: number of images of all processes.
        done: of this process so far.
    """

    unlisted: UnlistedIds
    on_progress: OnProgress
    total: int
    done: int = 0

    def count(self, domain: str, sample: Sample) -> None:
        """An image of a domain has been scored."""
        self.unlisted.add(domain, sample.name, sample.unlisted)
        self.advance(1)

    def advance(self, images: int) -> None:
        """So many further images are done."""
        self.done += images
        self.on_progress(min(self.done * distributed.world_size(), self.total), self.total)
