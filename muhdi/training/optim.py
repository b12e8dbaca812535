"""Optimizers and the learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import batch_norms
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.training.parameter_groups import parameter_groups

WARMUP_RATIO = 1e-6
"""Of the annealed learning rate, at the start of a warm-up."""


class RepeatedSGD(Optimizer):
    """SGD with momentum that takes ``repeats`` steps per iteration with one and the same gradient.

    So the published code trains: its optimizer lists each backbone convolution once for every
    module around it. The repetitions share one momentum buffer and see the weight decay again each
    time; in the very first iteration each starts a buffer of its own, and the last one's stays.

    Args:
        groups: with ``params`` and, of the same length, ``repeats``.
        learning_rate: of the groups.
        momentum: of the buffers.
        weight_decay: added to the gradient.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        super().__init__(
            groups, {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter, repeats in zip(group["params"], group["repeats"], strict=True):
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                first = "momentum_buffer" not in state
                for _ in range(repeats):
                    change = parameter.grad.add(parameter, alpha=group["weight_decay"])
                    if first:
                        state["momentum_buffer"] = change
                    else:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(change)
                    parameter.add_(state["momentum_buffer"], alpha=-group["lr"])
        return loss


def freeze_affine(network: Segmenter) -> None:
    """Keep scale and shift of the batch norms where the backbone asks for it."""
    if network.backbone.frozen_affine:
        for norm in batch_norms(network.backbone).values():
            norm.requires_grad_(False)


def build_optimizer(model: Segmenter, config: OptimizerConfig, learning_rate: float) -> Optimizer:
    """SGD or AdamW over the groups of `muhdi.training.parameter_groups`."""
    groups: list[dict[str, Any]] = []
    for group in parameter_groups(model, config):
        options: dict[str, Any] = {
            "params": list(group.parameters.values()),
            "factor": group.factor,
            "weight_decay": group.weight_decay,
        }
        if config.updates == "reference":
            options["repeats"] = [
                multiplicity(name) if group.of_backbone else 1 for name in group.parameters
            ]
        groups.append(options)
    if config.updates == "reference":
        return RepeatedSGD(groups, learning_rate, config.momentum, config.weight_decay)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=learning_rate, momentum=config.momentum, nesterov=False)


def multiplicity(name: str) -> int:
    """How often the reference's optimizer lists the backbone's parameter ``name``.

    Once per module around it: ``layer1.0.conv1.weight`` is in layer1, in its block and in its
    convolution, so 3 times.
    """
    return name.count(".")


def poly(base: float, iteration: int, iterations: int, power: float) -> float:
    """Base (1 - iteration / iterations) ** power; 0 from the end on."""
    return float(base * max(0.0, 1.0 - iteration / iterations) ** power)


def cosine(base: float, iteration: int, iterations: int) -> float:
    """Base (1 + cos(pi iteration / iterations)) / 2; 0 from the end on.

    Loshchilov and Hutter 2017, without restarts.
    """
    passed = min(1.0, iteration / iterations)
    return base * (1.0 + math.cos(math.pi * passed)) / 2


def learning_rate(base: float, iteration: int, iterations: int, config: OptimizerConfig) -> float:
    """The rate of an iteration: annealed, and below that during the warm-up.

    rate = annealed(i) (1 - (1 - i / warmup) (1 - ratio)) for i < warmup, as mmcv does it for
    SegFormer and DAFormer.

    Args:
        base: at the start, without a warm-up.
        iteration: of the stage, from 0.
        iterations: after which the annealing ends.
        config: says how.
    """
    rate = base
    if config.annealing == "poly":
        rate = poly(base, iteration, iterations, config.exponent)
    elif config.annealing == "cosine":
        rate = cosine(base, iteration, iterations)
    if iteration >= config.warmup:
        return rate
    lacking = (1.0 - iteration / config.warmup) * (1.0 - WARMUP_RATIO)
    return rate * (1.0 - lacking)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set every group's rate to ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def clip_gradients(network: nn.Module, limit: float | None) -> None:
    """Scale all gradients down together so that their norm is at most ``limit``; None: leave them.

    A norm that is not finite makes weights that are not, at which the run stops.
    """
    if limit is not None:
        nn.utils.clip_grad_norm_(network.parameters(), limit)
