"""Penalties that hold the weights near those of the previous step: L2-SP, EWC and MAS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi import distributed
from muhdi.losses import Losses, cross_entropy
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch
from muhdi.recipe.retentions import EWCConfig, ImportanceConfig, L2SPConfig, MASConfig
from muhdi.retention.base import Retention
from muhdi.retention.weights import NamedTensors, trained_weights
from muhdi.windows import inside


class L2SP(Retention):
    """L = w/2 Σ_i (θ_i - θ*_i)², the distance from the starting point (Li et al. 2018, L2-SP).

    θ* are the weights at the end of the previous step. It is EWC with every importance 1.
    """

    config_class: ClassVar[type[Any]] = L2SPConfig
    config: L2SPConfig | ImportanceConfig

    def __init__(self, config: L2SPConfig | ImportanceConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.anchor = NamedTensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.anchor.fill(trained_weights(network))

    def importance(self, name: str) -> Tensor | float:
        """F_i of the parameter ``name``: of its shape, or one number for all of it."""
        return 1.0

    def penalty(self, network: Segmenter) -> Losses:
        total = torch.zeros((), device=next(network.parameters()).device)
        for name, weight in trained_weights(network).items():
            # A head that this step has added starts as it likes: there is nothing to hold it to.
            if name in self.anchor:
                distance = (weight - self.anchor[name]).square()
                total = total + (self.importance(name) * distance).sum()
        return {self.config.method: self.config.weight / 2 * total}


class Importance(L2SP):
    """L = w/2 Σ_i F_i (θ_i - θ*_i)²: a weight is held as firmly as it was important.

    Over the steps F <- d F + F_new: d = 1 sums (all tasks, around the newest weights), d < 1
    forgets exponentially (online EWC, Schwarz et al. 2018, section 3), d = 0 has the newest alone.
    The first step measures F on the source before it begins.
    """

    config: ImportanceConfig

    def __init__(self, config: ImportanceConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.measured = NamedTensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        super().begin(network, memory, batches)
        held = {name for name in trained_weights(network) if name in self.anchor}
        if held <= memory.keys():
            self.measured.fill(memory)
            return
        # A step that trained fewer weights has measured no others.
        first = self.measure(network, self.first_images(batches))
        self.measured.fill(first | memory)

    def importance(self, name: str) -> Tensor | float:
        if name not in self.measured:
            return 0.0
        return self.measured[name]

    def end(self, network: Segmenter, batches: Batches) -> Memory:
        newest = self.measure(network, self.images(batches))
        return {
            name: self.config.decay * self.importance(name) + value
            for name, value in newest.items()
        }

    def first_images(self, batches: Batches) -> Iterable[Batch]:
        """Those on which importance is measured before the first step."""
        return batches.source(self.config.samples)

    def images(self, batches: Batches) -> Iterable[Batch]:
        """Those on which importance is measured at the end of a step."""
        raise NotImplementedError

    def measure(self, network: Segmenter, images: Iterable[Batch]) -> Memory:
        """F of every parameter on single images."""
        raise NotImplementedError


class EWC(Importance):
    """Elastic weight consolidation (Kirkpatrick et al. 2017, eq. 3).

    F is the diagonal of the Fisher information, estimated on the source at the end of every step by
    the mean over images of (∂CE/∂θ_i)², with the labels and the running statistics. Since it is the
    same source every time, the newest F replaces the earlier one by default.
    """

    config_class = EWCConfig
    config: EWCConfig

    def images(self, batches: Batches) -> Iterable[Batch]:
        return batches.source(self.config.samples)

    def measure(self, network: Segmenter, images: Iterable[Batch]) -> Memory:
        return mean_gradients(network, images, _cross_entropy, torch.square)


class MAS(Importance):
    """Memory aware synapses (Aljundi et al. 2018, eq. 2), which needs no labels.

    F is the mean over images of |∂‖s‖²/∂θ_i|, where ‖s‖² is the squared norm of a pixel's logits,
    the mean over pixels. It is measured on each target before that leaves. Before a first step
    without the source it is measured on that step's target.
    """

    config_class = MASConfig
    config: MASConfig

    def first_images(self, batches: Batches) -> Iterable[Batch]:
        return super().first_images(batches) if self.has_source else self.images(batches)

    def images(self, batches: Batches) -> Iterable[Batch]:
        return batches.target(self.config.samples)

    def measure(self, network: Segmenter, images: Iterable[Batch]) -> Memory:
        return mean_gradients(network, images, _output_norm, torch.abs)


def mean_gradients(
    network: Segmenter,
    images: Iterable[Batch],
    value: Callable[[Segmenter, Batch], Tensor],
    change: Callable[[Tensor], Tensor],
) -> Memory:
    """Mean over images of what a function makes of each one's gradient, per parameter.

    Args:
        network: left as it was. It runs on its running statistics: one image alone has none worth
            the name.
        images: one by one; each process has its share.
        value: a scalar, of the network and an image.
        change: of the gradient, before the mean.
    """
    weights = trained_weights(network)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    seen = torch.zeros((), dtype=torch.int64, device=next(network.parameters()).device)
    training = network.training
    network.eval()
    with distributed.fail_together(), torch.enable_grad():
        for image in images:
            gradients = torch.autograd.grad(
                value(network, image), list(weights.values()), allow_unused=True
            )
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    total[name] += change(gradient)
            seen += 1
    network.train(training)
    count = distributed.all_reduce_sum(seen).clamp(min=1)
    return {name: distributed.all_reduce_sum(one) / count for name, one in total.items()}


def _cross_entropy(network: Segmenter, image: Batch) -> Tensor:
    """Of the agnostic head, over all its levels, on one image."""
    assert image.labels is not None
    logits = network(image.images).upsampled(AGNOSTIC, image.size)
    losses = [cross_entropy(level, image.labels) for _, level in logits.items()]
    return torch.stack(losses).sum()


def _output_norm(network: Segmenter, image: Batch) -> Tensor:
    """Squared norm of the agnostic head's logits at a pixel, the mean over pixels."""
    logits: Tensor = network(image.images).heads[AGNOSTIC].main
    norms = logits.square().sum(1)
    # Padding does not count.
    counts = F.interpolate(inside(image)[:, None], norms.shape[-2:], mode="area")[:, 0]
    return (norms * counts).sum() / counts.sum().clamp(min=1)
