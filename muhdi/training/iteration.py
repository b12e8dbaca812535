"""One training iteration: every pass in turn. It knows the order of things and no method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from muhdi.errors import RunError
from muhdi.losses import Losses
from muhdi.models.outputs import Outputs
from muhdi.passes import Batch, Pass, merged


class Runner(Protocol):
    """Forward and backward, as devices and precision want them."""

    def forward(self, images: Tensor) -> Outputs:
        """The network's outputs on images [N, 3, H, W]."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar to those that are there."""
        ...


def train_iteration(
    run: Runner,
    passes: Sequence[Pass],
    penalty: Callable[[], Losses] = dict,
    parts: int = 1,
) -> Losses:
    """Accumulate the gradients of one iteration; the optimizers' steps are the caller's.

    Args:
        run: how a pass goes through the network.
        passes: in order.
        penalty: gives loss terms that depend on the weights alone.
        parts: in which each batch is computed, one after another, to save memory.

    Returns:
        All loss terms, detached; each is the mean over the parts.
    """
    logged: Losses = {}
    for one in passes:
        logged = _joined(one.owner, logged, _train_pass(run, one, parts))
    weights = penalty()
    if weights:
        run.backward(total(weights))
    detached = {name: loss.detach() for name, loss in weights.items()}
    owner = passes[0].owner if passes else "penalty"
    return _joined(owner, logged, detached)


def _joined(owner: str, logged: Losses, losses: Losses) -> Losses:
    """All terms so far; a clash of names is reported with its owner."""
    try:
        return merged(logged, losses)
    except RunError as error:
        raise RunError(f"{owner}: {error}") from None


def _train_pass(run: Runner, one: Pass, parts: int) -> Losses:
    by_part = [_train_part(run, one, part, parts) for part in one.batch.split(parts)]
    return _mean(by_part)


def _train_part(run: Runner, one: Pass, part: Batch, parts: int) -> Losses:
    """A function of its own, so that outputs and graph are freed before the next part."""
    with torch.set_grad_enabled(one.objective is not None):
        outputs = run.forward(part.images)
        losses = {} if one.objective is None else one.objective(outputs, part)
    # Without terms (all have weight 0, say) the pass has only looked.
    if losses:
        run.backward(total(losses) / parts)
    return {name: loss.detach() for name, loss in losses.items()}


def total(losses: Losses) -> Tensor:
    """The sum of all terms."""
    first, *others = losses.values()
    for loss in others:
        first = first + loss
    return first


def _mean(parts: Sequence[Losses]) -> Losses:
    """Term by term; of a single part itself."""
    if len(parts) < 2:
        return parts[0] if parts else {}
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
