"""A frozen copy of a network that teaches another."""

from __future__ import annotations

import copy

import torch
from torch import nn

from muhdi.models.average import move_towards
from muhdi.models.outputs import AGNOSTIC, Outputs
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import batch_norms


class Teacher(nn.Module):
    """A frozen copy: no gradients, and no updates except through `follow`.

    Dropout and stochastic depth are off: it gives one answer to one image. Only its batch norms may
    work on each batch's own statistics.

    Args:
        model: copied, with its weights.
        statistics: ``batch`` normalises with each batch's own statistics, as the student does while
            it trains, so that equal weights give equal outputs; ``running`` with the running ones,
            as the reference does.
        head: the only head that is kept.
    """

    def __init__(self, model: Segmenter, statistics: str = "batch", head: str = AGNOSTIC) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.model.set_heads({head: self.model.heads[head]})
        self.model.eval()
        for norm in batch_norms(self.model).values():
            # Through train(): frozen batch norms stay in evaluation mode.
            norm.train(statistics == "batch")
            norm.momentum = 0.0  # in training mode, too, the running statistics stay

    def train(self, mode: bool = True) -> Teacher:
        """Does nothing: the mode was chosen once."""
        return self

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> Outputs:
        """As the network's; float32 even where it computes in less, like the student's outputs."""
        outputs: Outputs = self.model(images)
        return outputs.full_precision()

    def follow(self, student: Segmenter, momentum: float) -> None:
        """Move the weights towards the student's: w <- momentum w + (1 - momentum) w_student."""
        move_towards(self.model, student, momentum)
