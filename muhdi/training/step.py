"""One training iteration. It knows the order of things and nothing of any method."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from muhdi.adaptation import Adaptation
from muhdi.data.loader import Batch
from muhdi.losses import Losses, cross_entropy
from muhdi.models.segmenter import Levels, Outputs, Segmenter
from muhdi.retention import Retention

Forward = Callable[[Tensor], Outputs]
Backward = Callable[[Tensor], None]


def segmentation(logits: Levels, labels: Tensor, weights: dict[str, float]) -> Losses:
    """w_main CE(main) + w_aux CE(aux); logits at the size of the labels."""
    return {f"seg_{name}": weights[name] * cross_entropy(level, labels) for name, level in logits.items()}


def train_iteration(
    forward: Forward,
    backward: Backward,
    model: Segmenter,
    adaptation: Adaptation,
    retention: Retention,
    source: Batch,
    target: Batch | None,
    weights: dict[str, float],
) -> Losses:
    """Accumulate the gradients of one iteration (the optimizer's step is the caller's); returns all loss terms.

    Args:
        forward: the network as it is to be called (the device strategy may have wrapped it).
        backward: back-propagation as the device strategy wants it.
        model: the bare network.
        source: labelled images.
        target: images of the new domain; None while training on the source alone.
        weights: of the levels in the segmentation loss.
    """
    assert source.labels is not None
    outputs = forward(source.images)
    on_source = outputs.heads[retention.learner].upsampled(_size(source.images))
    losses = segmentation(on_source, source.labels, weights) | retention.on_source(outputs, source.images)
    backward(_total(losses))
    if target is None:
        return losses

    images = adaptation.target_images(source.images, source.labels, target.images, target.labels)
    outputs = forward(images)
    on_target = outputs.heads[retention.learner].upsampled(_size(images))
    losses_target = adaptation.on_target(on_target) | retention.on_target(outputs, _size(images))
    if losses_target:
        backward(_total(losses_target))
    own = adaptation.update(model, on_source.detach(), on_target.detach())
    return losses | losses_target | own


def _size(images: Tensor) -> tuple[int, int]:
    """Height and width."""
    return images.shape[-2], images.shape[-1]


def _total(losses: Losses) -> Tensor:
    first, *others = losses.values()
    for loss in others:
        first = first + loss
    return first
