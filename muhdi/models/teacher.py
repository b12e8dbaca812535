"""A frozen copy of a network that teaches another."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from muhdi.models.segmenter import AGNOSTIC, Outputs, Segmenter
from muhdi.models.statistics import batch_norms


class Teacher(nn.Module):
    """Runs without a graph and never changes by itself.

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
        self.model.heads = nn.ModuleDict({head: self.model.heads[head]})
        self.model.train(statistics == "batch")
        for norm in batch_norms(self.model).values():
            norm.momentum = 0.0  # in training mode too the running statistics stay

    def train(self, mode: bool = True) -> Teacher:
        """Does nothing: the mode was chosen once."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Outputs:
        """As the network's; float32 even where it computes in less, like the student's outputs."""
        outputs: Outputs = self.model(images)
        heads = {name: levels.map(_full) for name, levels in outputs.heads.items()}
        return Outputs(heads, tuple(_full(stage) for stage in outputs.stages))

    @torch.no_grad()
    def follow(self, student: Segmenter, momentum: float) -> None:
        """Move the weights towards the student's.

        W <- momentum * w + (1 - momentum) * w_student.
        """
        weights = dict(student.named_parameters())
        for name, own in self.model.named_parameters():
            own.lerp_(weights[name], 1.0 - momentum)


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
