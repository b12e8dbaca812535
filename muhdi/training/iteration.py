"""One training iteration. It knows the order of things and nothing of any method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from muhdi import distributed
from muhdi.adaptation import Adaptation, TargetBatch
from muhdi.data.stream import Batch
from muhdi.losses import Losses, cross_entropy, labelled_pixels
from muhdi.models.segmenter import Levels, Outputs, Segmenter
from muhdi.retention import Retention

Objective = Callable[[Outputs], Losses]


class Pass(Protocol):
    """Forward, objective and backward, as the device strategy and the precision want them."""

    def __call__(self, images: Tensor, objective: Objective, *, share: float, last: bool) -> Losses:
        """Add the gradients of ``share`` times the objective's sum to the network's.

        Args:
            images: [N, 3, H, W].
            objective: of the network's outputs on these images; without terms it only looks.
            share: of this pass in the whole batch.
            last: no other backward pass follows in this iteration, so that the processes' gradients
                may meet.
        """
        ...


def segmentation(
    logits: Levels, labels: Tensor, weights: dict[str, float], pixels: Tensor
) -> Losses:
    """w_main CE(main) + w_aux CE(aux); logits at the size of the labels."""
    return {
        f"seg_{name}": weights[name] * cross_entropy(level, labels, pixels=pixels)
        for name, level in logits.items()
    }


def train_iteration(
    run: Pass,
    model: Segmenter,
    adaptation: Adaptation,
    retention: Retention,
    source: Batch,
    target: Batch | None,
    weights: dict[str, float],
    parts: int = 1,
) -> Losses:
    """Accumulate the gradients of one iteration (the optimizer's step is the caller's).

    Returns all loss terms.

    Args:
        run: how a pass through the network is done.
        model: the bare network.
        source: labelled images.
        target: images of the new domain; None while training on the source alone.
        weights: of the levels in the segmentation loss.
        parts: passes in which a batch is computed, to save memory.
    """
    assert source.labels is not None
    learner = retention.learner
    pixels = distributed.all_reduce_mean(labelled_pixels(source.labels)) / parts
    trains_on_target = target is not None and (adaptation.trains or retention.teaches_on_target)
    losses: list[Losses] = []
    on_source: list[Levels] = []
    for images, labels in zip(source.images.chunk(parts), source.labels.chunk(parts), strict=True):

        def source_objective(
            outputs: Outputs, images: Tensor = images, labels: Tensor = labels
        ) -> Losses:
            logits = outputs.heads[learner].upsampled(_size(images))
            if adaptation.optimizer is not None:
                on_source.append(logits.detach())
            return segmentation(logits, labels, weights, pixels) | retention.on_source(
                outputs, images
            )

        last = not trains_on_target and len(losses) == parts - 1
        losses.append(run(images, source_objective, share=1 / parts, last=last))
    if target is None:
        return _mean(losses)

    batch = adaptation.target_batch(source.images, source.labels, target.images, target.labels)
    losses_target: list[Losses] = []
    on_target: list[Levels] = []
    for part in batch.split(parts):

        def target_objective(outputs: Outputs, part: TargetBatch = part) -> Losses:
            logits = outputs.heads[learner].upsampled(_size(part.images))
            if adaptation.optimizer is not None:
                on_target.append(logits.detach())
            return adaptation.on_target(logits, part) | retention.on_target(
                outputs, _size(part.images)
            )

        with torch.set_grad_enabled(trains_on_target):
            last = len(losses_target) == parts - 1
            losses_target.append(run(part.images, target_objective, share=1 / parts, last=last))
    own = (
        adaptation.update(model, _joined(on_source), _joined(on_target))
        if adaptation.optimizer is not None
        else {}
    )
    return _mean(losses) | _mean(losses_target) | own


def plain_pass(model: Segmenter) -> Pass:
    """A pass through a bare network on one device."""

    def run(images: Tensor, objective: Objective, *, share: float, last: bool) -> Losses:
        losses = objective(model(images))
        if losses:
            (share * total(losses)).backward()
        return losses

    return run


def total(losses: Losses) -> Tensor:
    """The sum of all terms."""
    first, *others = losses.values()
    for loss in others:
        first = first + loss
    return first


def _size(images: Tensor) -> tuple[int, int]:
    """Height and width."""
    return images.shape[-2], images.shape[-1]


def _mean(parts: Sequence[Losses]) -> Losses:
    """Term by term; of a single part itself."""
    if len(parts) == 1:
        return parts[0]
    return {name: torch.stack([part[name].detach() for part in parts]).mean() for name in parts[0]}


def _joined(parts: Sequence[Levels]) -> Levels:
    """The logits of a batch from those of its parts."""
    if len(parts) == 1:
        return parts[0]
    aux = [part.aux for part in parts if part.aux is not None]
    return Levels(torch.cat(aux) if aux else None, torch.cat([part.main for part in parts]))
