"""What every retention is: how the network keeps the domains that it has learnt before."""

from __future__ import annotations

from torch import Tensor, nn

from muhdi.losses import Losses, kl_distillation, mse_distillation
from muhdi.models.segmenter import AGNOSTIC, Levels, Outputs


class Retention(nn.Module):
    """Base of all retentions.

    By itself it is ``none``: plain sequential fine-tuning, the paper's *baseline*.

    Attributes:
        heads: the heads that the network has during the step, the output first.
        start: how the heads start, see `Segmenter.set_heads`.
        learner: the head that learns from the source labels and by the adaptation.
        teaches_on_target: whether `on_target` has losses.
    """

    heads: tuple[str, ...] = (AGNOSTIC,)
    start: str = "copy"
    learner: str = AGNOSTIC
    teaches_on_target: bool = False

    def on_source(self, outputs: Outputs, images: Tensor) -> Losses:
        """Losses on the source images [N, 3, H, W], of which ``outputs`` are the network's."""
        return {}

    def on_target(self, outputs: Outputs, size: tuple[int, int]) -> Losses:
        """Losses on the target's (or mixed) images, whose height and width are ``size``."""
        return {}


def distil(
    prefix: str,
    teacher: Levels,
    student: Levels,
    weights: dict[str, float],
    kind: str,
    reduction: str,
) -> Losses:
    """Distillation at both levels.

    W_main d(teacher_main, student_main) + w_aux d(teacher_aux, student_aux).

    Args:
        prefix: of the terms' names.
        teacher: must not carry a graph.
        weights: factor per level.
        kind: ``kl`` or ``mse``.
        reduction: of the KL, see `muhdi.losses.kl_distillation`.
    """
    losses = {}
    for (name, taught), (_, learnt) in zip(teacher.items(), student.items(), strict=True):
        if weights[name]:
            distance = (
                kl_distillation(taught, learnt, reduction)
                if kind == "kl"
                else mse_distillation(taught, learnt)
            )
            losses[f"{prefix}_{name}"] = weights[name] * distance
    return losses
