"""Which statistics a teacher should normalise with, judged without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.losses import entropy_map
from muhdi.method import Batches
from muhdi.models.segmenter import Segmenter
from muhdi.models.teacher import Teacher
from muhdi.recipe.pseudo_labels import CANDIDATES, TeacherStatistics

IMAGES = 32
"""Target images that candidates are judged on."""
PREFERRED: TeacherStatistics = "blend"
"""What stays where no other one is clearly better: it has never failed badly."""
CLEARLY = 0.03
"""By so much mutual information another one must be better.

Where true labels could tell, another one that was better was so by 0.07 or more, and one that was
worse by 0.01 at most: docs/results.md.
"""
TOGETHER = 4
"""Images that share the statistics of a batch there."""


@dataclass(frozen=True)
class Judgement:
    """What pseudo-labels are like, without knowing the true ones; each from 0 to 1.

    Agreement between mirror images is no part of it: a teacher that sees one class everywhere has
    the most.

    Attributes:
        entropy: mean entropy of the predictions, in units of log C.
        diversity: entropy of the mean prediction, in units of log C.
    """

    entropy: float
    diversity: float

    @property
    def information(self) -> float:
        """Mutual information of image and label: certain of each pixel, and not always the same."""
        return self.diversity - self.entropy


def best_statistics(
    network: Segmenter, heads: Sequence[str], batches: Batches
) -> tuple[TeacherStatistics, str] | None:
    """The candidate whose pseudo-labels on the target hold the most information.

    ``blend`` stays unless another one holds clearly more. Of several targets the mean counts.

    Args:
        network: that the teacher starts from.
        heads: the head that learns each target.
        batches: images to look at.

    Returns:
        Its name, and a line for the user; None where there is no image to judge on.
    """
    # One process judges all images: how many there are must not change the choice, and each has as
    # many exchanges with the others as they have.
    found = distributed.on_rank_zero(lambda: _judgements(network, heads, batches))
    if not found:
        return None
    best = chosen(found)
    scores = ", ".join(f"{name} {one.information:.3f}" for name, one in found.items())
    return best, (
        f"teacher_statistics: auto chose {best} (mutual information of the pseudo-labels: {scores})"
    )


def _judgements(
    network: Segmenter, heads: Sequence[str], batches: Batches
) -> dict[TeacherStatistics, Judgement]:
    """Of all candidates; nothing where there is no image."""
    with distributed.without_peers():
        images: dict[int, list[Tensor]] = {}
        for batch in batches.target(IMAGES):
            images.setdefault(batch.target, []).append(batch.images)
        if not images:
            return {}
        teacher = Teacher(network, head=heads[0], others=heads[1:])
        found: dict[TeacherStatistics, Judgement] = {}
        for name in CANDIDATES:
            teacher.use(name)
            judged = []
            for target, own in images.items():
                groups = torch.cat(own).split(TOGETHER)  # images of a target have one size
                judged.append(judge(teacher, groups, heads[target]))
            found[name] = _mean(judged)
        return found


def _mean(judged: Sequence[Judgement]) -> Judgement:
    """Over targets, which count alike."""
    if len(judged) == 1:
        return judged[0]
    entropy = sum(one.entropy for one in judged) / len(judged)
    return Judgement(entropy, sum(one.diversity for one in judged) / len(judged))


def chosen(found: Mapping[TeacherStatistics, Judgement]) -> TeacherStatistics:
    """The candidate with the most information, or `PREFERRED` where none has clearly more."""
    best = max(found, key=lambda name: found[name].information)
    clearly = found[best].information >= found[PREFERRED].information + CLEARLY
    return best if clearly else PREFERRED


@torch.no_grad()
def judge(teacher: Teacher, groups: Sequence[Tensor], head: str | None = None) -> Judgement:
    """What a teacher's labels of some images are like.

    Args:
        teacher: that labels.
        groups: images [N, 3, H, W], at least one group.
        head: that labels; None: the teacher's own.
    """
    surprise = 0.0
    pixels = 0
    total: Tensor | None = None
    for images in groups:
        probabilities = teacher.probabilities(images, head)
        surprise += float(entropy_map(probabilities).sum())
        pixels += probabilities[:, 0].numel()
        summed = probabilities.sum((0, 2, 3), dtype=torch.float64)
        total = summed if total is None else total + summed
    assert total is not None
    mean = total / pixels
    return Judgement(surprise / pixels, float(entropy_map(mean[None]).sum()))
