"""What every retention is: how the network keeps the domains that it has learned before."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muhdi.losses import Losses, kl_distillation, mse_distillation
from muhdi.method import Method, MethodContext
from muhdi.models.outputs import AGNOSTIC, Levels, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch
from muhdi.recipe import plugins
from muhdi.recipe.retentions import MTKTConfig, MuHDiConfig, RetentionConfig


class Retention(Method):
    """Base of all retentions.

    Args:
        config: the section of the recipe.
        context: what else there is to know.
    """

    config_class = RetentionConfig

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        plugins.register(cls)

    def __init__(self, config: Any, context: MethodContext) -> None:
        super().__init__()
        self.config = config
        self.has_source = context.has_source

    @classmethod
    def trained_heads(cls, targets: int) -> tuple[str, ...]:
        """The head that learns each of several targets, for sections with `trains_specialist`."""
        return (AGNOSTIC,) * targets

    def start_heads(self, network: Segmenter) -> None:
        """Give the network the heads of the step, after `begin`; by itself the agnostic one."""
        network.set_heads({AGNOSTIC: network.heads[AGNOSTIC]})

    @property
    def learns_on_target(self) -> bool:
        """Whether `on_target` is defined."""
        return type(self).on_target is not Retention.on_target

    def source_batch(self, source: Batch, target: Batch) -> Batch:
        """What the passes of an iteration see of the source; labels stay what they are.

        In a step with several targets it is called for each of them in turn.

        Args:
            source: labelled images, as the call before has returned them.
            target: images of the new domain.
        """
        return source

    def blended(self, images: Tensor, probabilities: Tensor) -> Tensor:
        """What the adaptation makes pseudo-labels from.

        Args:
            images: of the target, [N, 3, H, W].
            probabilities: its teacher's, [N, C, H, W].

        Returns:
            [N, C, H, W], probabilities again.
        """
        return probabilities

    def on_source(self, outputs: Outputs, batch: Batch) -> Losses:
        """Loss terms of the network's outputs on (a part of) the source's images."""
        return {}

    def on_target(self, outputs: Outputs, batch: Batch) -> Losses:
        """Loss terms on (a part of) what the adaptation's pass on the target sees."""
        return {}


def trained_heads(config: RetentionConfig, targets: int) -> tuple[str, ...]:
    """The head that learns each target, by the adaptation and from the source's labels.

    Args:
        config: the section of a retention, or of several.
        targets: how many are learned together.
    """
    for part in config.parts:
        if part.trains_specialist:
            heads: tuple[str, ...] = part.target_class().trained_heads(targets)
            return heads
    return (AGNOSTIC,) * targets


def teach_agnostic(
    config: MuHDiConfig | MTKTConfig, aux: float, specialist: str, outputs: Outputs, batch: Batch
) -> Losses:
    """Distillation from a specialist to the agnostic head on target images.

    On upsampled logits, with the gradient to the specialist stopped (MuHDi, eq. 6):
    w_kt [d(sg specialist_main, agnostic_main) + w_aux d(sg specialist_aux, agnostic_aux)].

    Args:
        config: says w_kt and the distance d.
        aux: w_aux, the aux level's weight relative to the main one's.
        specialist: name of the head that teaches.
        outputs: of the network, on the batch.
        batch: images of the target.
    """
    weights = {"aux": config.weight_target * aux, "main": config.weight_target}
    teacher = outputs.upsampled(specialist, batch.size).detach()
    agnostic = outputs.upsampled(AGNOSTIC, batch.size)
    reduction = "mse" if config.target_loss == "mse" else config.kl_reduction
    return distil("kt", teacher, agnostic, weights, reduction)


def distil(
    prefix: str, teacher: Levels, student: Levels, weights: dict[str, float], reduction: str
) -> Losses:
    """Distillation at both levels: w_main d(teacher, student) + w_aux d(teacher, student).

    Args:
        prefix: of the terms' names.
        teacher: logits; must not carry a graph.
        student: logits, of the same levels and sizes.
        weights: factor per level; a level of weight 0 is left out.
        reduction: ``mse`` between probabilities, or that of the KL divergence, see
            `muhdi.losses.kl_distillation`.
    """
    losses: Losses = {}
    for (name, taught), (_, learned) in zip(teacher.items(), student.items(), strict=True):
        if not weights[name]:
            continue
        if reduction == "mse":
            distance = mse_distillation(taught, learned)
        else:
            distance = kl_distillation(taught, learned, reduction)
        losses[f"{prefix}_{name}"] = weights[name] * distance
    return losses
