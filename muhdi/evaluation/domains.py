"""Measuring a network on the domains of a recipe: their statistics, and its scores on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from muhdi import distributed
from muhdi.data.domains import Domains
from muhdi.data.prepared import PreparedSet
from muhdi.data.unlisted import UnlistedIds
from muhdi.evaluation.predict import Network, evaluate_domain, images_tensor
from muhdi.evaluation.results import Entry, scores, without_score
from muhdi.models.segmenter import AGNOSTIC
from muhdi.models.statistics import Statistics
from muhdi.recipe.schema import Recipe


def image_batches(samples: PreparedSet, recipe: Recipe, device: torch.device) -> Iterator[Tensor]:
    """``evaluation.domain_images`` images, spread evenly over the set, in batches [N, 3, H, W].

    Of several processes
    each has every so-many-th batch."""
    count = min(recipe.evaluation.domain_images, len(samples))
    chosen = np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()
    size = recipe.evaluation.batch_size
    for start in range(distributed.rank() * size, count, distributed.world_size() * size):
        yield images_tensor([samples[i] for i in chosen[start : start + size]], device)


def evaluate_domains(
    recipe: Recipe,
    model: Network,
    statistics: Mapping[str, Statistics],
    domains: Domains,
    kinds: Sequence[str],
    unlisted: UnlistedIds,
    head: str = AGNOSTIC,
) -> dict[str, dict[str, Entry]]:
    """Scores by kind of statistics and domain.

    A domain without labels or statistics has none, and the reason.
    """
    names, evaluation = recipe.class_set().classes, recipe.evaluation
    by_kind: dict[str, dict[str, Entry]] = {kind: {} for kind in kinds}
    for kind in kinds:
        for domain, samples in domains.validation.items():
            if not samples.with_labels:
                by_kind[kind][domain] = without_score("unlabelled")
            elif kind == "domain" and domain not in statistics:
                by_kind[kind][domain] = without_score("no statistics")
            else:
                confusion = evaluate_domain(
                    model,
                    samples,
                    kind=kind,
                    domain=statistics.get(domain),
                    batch_size=evaluation.batch_size,
                    size=evaluation.size,
                    head=head,
                    seen=lambda sample, domain=domain: unlisted.add(
                        domain, sample.name, sample.unlisted
                    ),  # type: ignore[misc]
                )
                by_kind[kind][domain] = scores(confusion, names, len(samples))
    return by_kind
