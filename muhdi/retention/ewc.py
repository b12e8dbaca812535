"""Penalties that hold the weights near those of the previous step: L2-SP and EWC."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.losses import Losses, cross_entropy
from muhdi.method import Batches, Memory, MethodContext
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter
from muhdi.passes import Batch
from muhdi.recipe.retentions import EWCConfig, L2SPConfig
from muhdi.retention.base import Retention


class L2SP(Retention):
    """L = w/2 Σ_i (θ_i - θ*_i)², the distance from the starting point (Li et al. 2018, L2-SP).

    θ* are the weights at the end of the previous step. It is EWC with every importance 1.
    """

    config_class: ClassVar[type[Any]] = L2SPConfig
    config: L2SPConfig | EWCConfig

    def __init__(self, config: L2SPConfig | EWCConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.anchor = _Tensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        self.anchor.fill(_trained_weights(network))

    def importance(self, name: str) -> Tensor | float:
        """F_i of the parameter ``name``: of its shape, or one number for all of it."""
        return 1.0

    def penalty(self, network: Segmenter) -> Losses:
        total = torch.zeros((), device=next(network.parameters()).device)
        for name, weight in _trained_weights(network).items():
            # A head that this step has added starts as it likes: there is nothing to hold it to.
            if name in self.anchor:
                distance = (weight - self.anchor[name]).square()
                total = total + (self.importance(name) * distance).sum()
        return {self.config.method: self.config.weight / 2 * total}


class EWC(L2SP):
    """L = w/2 Σ_i F_i (θ_i - θ*_i)² (Kirkpatrick et al. 2017, eq. 3, elastic weight consolidation).

    F is the diagonal of the Fisher information, estimated on the source at the end of every step by
    the mean over images of (∂CE/∂θ_i)², with the labels and the running statistics. Over the steps
    F <- d F + F_new: d = 1 sums (all tasks, around the newest weights), d < 1 forgets exponentially
    (online EWC, Schwarz et al. 2018, section 3). The first step measures F before it begins.
    """

    config_class = EWCConfig
    config: EWCConfig

    def __init__(self, config: EWCConfig, context: MethodContext) -> None:
        super().__init__(config, context)
        self.fisher = _Tensors()

    def begin(self, network: Segmenter, memory: Memory, batches: Batches) -> None:
        super().begin(network, memory, batches)
        self.fisher.fill(memory or fisher_information(network, batches, self.config.samples))

    def importance(self, name: str) -> Tensor | float:
        if name not in self.fisher:
            return 0.0
        return self.fisher[name]

    def end(self, network: Segmenter, batches: Batches) -> Memory:
        newest = fisher_information(network, batches, self.config.samples)
        return {
            name: self.config.decay * self.importance(name) + value
            for name, value in newest.items()
        }


def fisher_information(network: Segmenter, batches: Batches, count: int) -> Memory:
    """Mean over source images of the squared gradient of the cross entropy, per parameter.

    Args:
        network: left as it was. It runs on its running statistics: one image alone has none worth
            the name.
        batches: where the source's images come from; each process computes its share.
        count: number of images.
    """
    weights = _trained_weights(network)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    seen = torch.zeros((), dtype=torch.int64, device=next(network.parameters()).device)
    training = network.training
    network.eval()
    with distributed.fail_together(), torch.enable_grad():
        for batch in batches.source(count):
            loss = _cross_entropy(network, batch)
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.square()
            seen += 1
    network.train(training)
    images = distributed.all_reduce_sum(seen).clamp(min=1)
    return {name: distributed.all_reduce_sum(value) / images for name, value in total.items()}


def _cross_entropy(network: Segmenter, batch: Batch) -> Tensor:
    """Of the agnostic head, over all its levels, on one image."""
    assert batch.labels is not None
    logits = network(batch.images).upsampled(AGNOSTIC, batch.size)
    losses = [cross_entropy(level, batch.labels) for _, level in logits.items()]
    return torch.stack(losses).sum()


def _trained_weights(network: Segmenter) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


class _Tensors(nn.Module):
    """Tensors by the dotted names of parameters, kept as buffers: saved, and moved to devices."""

    def fill(self, tensors: dict[str, nn.Parameter] | Memory) -> None:
        """Copy the tensors in."""
        for name, value in tensors.items():
            self.register_buffer(self._key(name), value.detach().clone())

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._buffers

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(self._key(name))

    @staticmethod
    def _key(name: str) -> str:
        return name.replace(".", "/")  # a buffer's name must not hold dots
