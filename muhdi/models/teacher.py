"""A frozen copy of a network that teaches another."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from muhdi.models.segmenter import Outputs, Segmenter
from muhdi.models.statistics import batch_norms


class Teacher(nn.Module):
    """Runs without a graph and never changes by itself.

    Args:
        model: copied, with its weights.
        statistics: ``batch`` normalises with each batch's own statistics, as the student does while it trains, so
            that equal weights give equal outputs; ``running`` with the running ones, as the reference does.
    """

    def __init__(self, model: Segmenter, statistics: str = "batch") -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.model.train(statistics == "batch")
        for norm in batch_norms(self.model).values():
            norm.momentum = 0.0  # in training mode too the running statistics stay

    def train(self, mode: bool = True) -> Teacher:
        """Does nothing: the mode was chosen once."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Outputs:
        outputs: Outputs = self.model(images)
        return outputs

    @torch.no_grad()
    def follow(self, student: Segmenter, momentum: float) -> None:
        """Move the weights towards the student's: w <- momentum * w + (1 - momentum) * w_student."""
        for own, new in zip(self.model.parameters(), student.parameters(), strict=True):
            own.lerp_(new, 1.0 - momentum)
