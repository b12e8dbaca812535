"""The normalisation statistics of a network: whose mean and variance its batch norms use.

At evaluation there are three choices. ``running``: the averages collected while training. ``domain``: statistics that
were measured for one domain while its images were there. ``image``: each test image's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

STATISTICS = ("running", "domain", "image")

Statistics = dict[str, Tensor]
"""``<layer>.running_mean`` and ``<layer>.running_var`` of every batch norm."""


def batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Every batch norm of ``model`` by its name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}


def read_statistics(model: nn.Module) -> Statistics:
    """A copy of the running statistics."""
    statistics = {}
    for name, norm in batch_norms(model).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        statistics[f"{name}.running_mean"] = norm.running_mean.clone()
        statistics[f"{name}.running_var"] = norm.running_var.clone()
    return statistics


def write_statistics(model: nn.Module, statistics: Statistics) -> None:
    """Put ``statistics`` in place of the running ones."""
    for name, norm in batch_norms(model).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(statistics[f"{name}.running_mean"])
        norm.running_var.copy_(statistics[f"{name}.running_var"])


@contextmanager
def _restored(model: nn.Module) -> Iterator[list[nn.BatchNorm2d]]:
    """Inside, batch norms may be changed; at the end their mode, momentum and buffers are as they were."""
    norms = list(batch_norms(model).values())
    kept = [(norm.training, norm.momentum, {k: v.clone() for k, v in norm.named_buffers()}) for norm in norms]
    try:
        yield norms
    finally:
        for norm, (training, momentum, buffers) in zip(norms, kept, strict=True):
            norm.train(training)
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])


@contextmanager
def using(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, batch norms in evaluation mode normalise with ``statistics``."""
    with _restored(model):
        write_statistics(model, statistics)
        yield


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, batch norms normalise with each batch's own statistics; for the image's own, give one at a time."""
    with _restored(model) as norms:
        for norm in norms:
            norm.train()
        yield


@torch.no_grad()
def measure_statistics(model: nn.Module, batches: Iterable[Tensor]) -> Statistics:
    """Statistics of one domain: the mean over ``batches`` of each batch's own, layer by layer.

    Args:
        model: left as it was.
        batches: images [N, 3, H, W] of the domain, at least one batch.
    """
    with _restored(model) as norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
        for images in batches:
            model(images)
        return read_statistics(model)
