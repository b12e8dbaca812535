"""The normalisation statistics of a network: whose mean and variance its batch norms use.

At evaluation there are five choices, see `muhdi.models.inference`. ``running``: the averages
collected while training. ``domain``: statistics that were measured for one domain while its images
were there. ``image``: each test image's own. ``blend``: the averages with a tenth of the image's
own. ``pooled``: the mixture of all domains whose statistics were measured, so that no domain has to
be named. A network without batch norms has none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.models.norms import ReplacedNorm, SyncedBatchNorm

Statistics = dict[str, Tensor]
"""``<layer>.running_mean`` and ``<layer>.running_var`` of every batch norm."""

CHOICES = ("running", "domain", "image", "blend", "pooled")
"""Whose mean and variance batch norms can use."""
STORED = ("domain", "pooled")
"""Those that need statistics which were measured for domains."""


def batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Every batch norm of ``model`` by its name."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)
    }


def read_statistics(model: nn.Module) -> Statistics:
    """A copy of the running statistics."""
    statistics = {}
    for name, norm in batch_norms(model).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        statistics[f"{name}.running_mean"] = norm.running_mean.clone()
        statistics[f"{name}.running_var"] = norm.running_var.clone()
    return statistics


def average_statistics(model: nn.Module) -> None:
    """Bring the running statistics of several processes' copies together.

    Each has seen its part of every batch. Frozen ones stay, and synced ones are the same
    everywhere.
    """
    own = [norm for norm in batch_norms(model).values() if not isinstance(norm, ReplacedNorm)]
    distributed.average_tensors(
        buffer
        for norm in own
        for buffer in (norm.running_mean, norm.running_var)
        if buffer is not None
    )


@dataclass(frozen=True)
class _Kept:
    """What a batch norm was like."""

    norm: nn.BatchNorm2d
    momentum: float | None
    buffers: dict[str, Tensor]

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> _Kept:
        buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        return cls(norm, norm.momentum, buffers)

    def restore(self) -> None:
        self.norm.momentum = self.momentum
        for name, buffer in self.norm.named_buffers():
            buffer.copy_(self.buffers[name])


@contextmanager
def _measuring(model: nn.Module) -> Iterator[dict[str, nn.BatchNorm2d]]:
    """Inside, batch norms store the moments of the last batch, and nothing else is in train mode.

    Dropout would change the moments. Several processes look at images of their own there, so their
    batch norms leave each other alone. At the end everything is as it was.
    """
    norms = batch_norms(model)
    kept = [_Kept.of(norm) for norm in norms.values()]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for norm in norms.values():
            norm.momentum = 1.0
            norm.training = True
            if isinstance(norm, SyncedBatchNorm):
                norm.apart = True
        yield norms
    finally:
        for one in kept:
            one.restore()
            if isinstance(one.norm, SyncedBatchNorm):
                one.norm.apart = False
        for module, mode in training.items():
            module.training = mode


@torch.no_grad()
def measure_statistics(model: nn.Module, batches: Iterable[Tensor]) -> Statistics:
    """Statistics of one domain: mean and variance over all its images together, layer by layer.

    The moments of the batches are pooled, each image with the same weight: with n images in a batch
    of mean m and variance v, mean = sum n m / sum n, variance = sum n (v + m^2) / sum n - mean^2.

    Args:
        model: left as it was.
        batches: images [N, 3, H, W] of the domain, at least one batch; of several processes each
            gives its own.

    Returns:
        The statistics; nothing, without a forward pass, for a network that has no batch norm.
    """
    if not batch_norms(model):
        return {}
    count = torch.zeros((), dtype=torch.int64, device=next(model.parameters()).device)
    first = {
        name: torch.zeros(norm.num_features, dtype=torch.float64, device=count.device)
        for name, norm in batch_norms(model).items()
    }
    second = {name: torch.zeros_like(value) for name, value in first.items()}
    with _measuring(model) as norms, distributed.fail_together():
        for images in batches:
            model(images)
            count += len(images)
            for name, norm in norms.items():
                assert norm.running_mean is not None
                assert norm.running_var is not None
                mean = norm.running_mean.double()
                variance = norm.running_var.double()
                first[name] += len(images) * mean
                second[name] += len(images) * (variance + mean.square())
    count = distributed.all_reduce_sum(count)
    statistics: Statistics = {}
    for name in first:
        mean = distributed.all_reduce_sum(first[name]) / count
        variance = (distributed.all_reduce_sum(second[name]) / count - mean.square()).clamp(min=0)
        statistics[f"{name}.running_mean"] = mean.float()
        statistics[f"{name}.running_var"] = variance.float()
    return statistics


def pool_statistics(domains: Collection[Statistics]) -> Statistics:
    """The moments of the mixture of several domains, each with the same weight.

    With means m_d and variances v_d: mean = mean_d m_d, variance = mean_d v_d + mean_d (m_d -
    mean)^2.

    Args:
        domains: statistics of the same network, at least one.
    """
    first = next(iter(domains))
    pooled: Statistics = {}
    for name in first:
        if not name.endswith("running_mean"):
            continue
        variance_name = name.replace("running_mean", "running_var")
        means = torch.stack([statistics[name].double() for statistics in domains])
        variances = torch.stack([statistics[variance_name].double() for statistics in domains])
        pooled[name] = means.mean(0).float()
        pooled[variance_name] = (variances.mean(0) + means.var(0, correction=0)).float()
    return pooled
