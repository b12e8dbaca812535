"""Optimizers and the learning rate schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import batch_norms
from muhdi.recipe.schema import OptimizerConfig


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
    """SGD or AdamW over two groups: the backbone, and the decoder with the heads.

    The latter learn ``head_factor`` times as fast.
    """
    backbone = {name: p for name, p in model.backbone.named_parameters() if p.requires_grad}
    heads = [*model.heads.parameters(), *model.decoder.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": list(backbone.values()), "factor": 1.0},
        {"params": heads, "factor": config.head_factor},
    ]
    if config.updates == "reference":
        groups[0]["repeats"] = [multiplicity(name) for name in backbone]
        groups[1]["repeats"] = [1] * len(heads)
        return RepeatedSGD(groups, learning_rate, config.momentum, config.weight_decay)
    if config.name == "adamw":
        return torch.optim.AdamW(
            groups,
            lr=learning_rate,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )
    return torch.optim.SGD(
        groups,
        lr=learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=False,
    )


def multiplicity(name: str) -> int:
    """How often the reference's optimizer lists the backbone's parameter ``name``.

    Once per module around it: ``layer1.0.conv1.weight`` is in layer1, in its block and in its
    convolution, so 3 times.
    """
    return name.count(".")


def poly(base: float, iteration: int, iterations: int, power: float) -> float:
    """Base (1 - iteration / iterations) ** power; 0 from the end on."""
    return float(base * max(0.0, 1.0 - iteration / iterations) ** power)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set every group's rate to ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
