"""Weights that go back to where they were, element by element."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def restore_some(
    weight: Tensor, anchor: Tensor, probability: float, generator: torch.Generator
) -> None:
    """θ_i <- m_i θ*_i + (1 - m_i) θ_i with m_i ~ Bernoulli(p) (CoTTA, Wang et al. 2022, eq. 7, 8).

    Args:
        weight: θ, changed in place.
        anchor: θ*, of the same shape.
        probability: p.
        generator: on the weight's device.
    """
    numbers = torch.rand(weight.shape, generator=generator, device=weight.device)
    weight.copy_(torch.where(numbers < probability, anchor, weight))
