"""Optimizers and the learning rate schedule."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from muhdi.config import OptimizerConfig
from muhdi.models.segmenter import Segmenter


def build_optimizer(model: Segmenter, config: OptimizerConfig, learning_rate: float) -> Optimizer:
    """SGD or AdamW over two groups, backbone and heads; the heads learn ``head_factor`` times as fast."""
    groups = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad], "factor": 1.0},
        {"params": list(model.heads.parameters()), "factor": config.head_factor},
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(
            groups, lr=learning_rate, betas=(config.momentum, 0.999), weight_decay=config.weight_decay
        )
    return torch.optim.SGD(
        groups, lr=learning_rate, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=False
    )


def poly(base: float, iteration: int, iterations: int, power: float) -> float:
    """Base (1 - iteration / iterations) ** power; 0 from the end on."""
    return float(base * max(0.0, 1.0 - iteration / iterations) ** power)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set every group's rate to ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
