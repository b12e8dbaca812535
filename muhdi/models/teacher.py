"""A frozen copy of a network that teaches another."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from muhdi.losses import upsample
from muhdi.models.adapters import merge_adapters
from muhdi.models.average import WeightAverage, move_towards
from muhdi.models.image_norms import BlendNorm, replace_norm
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
            as the reference does; ``blend`` with those and a tenth of each image's own.
        head: that is kept, and whose probabilities are asked for.
        others: heads that are kept, too.
        follows: whether the running statistics are ``model``'s own ones, now and later, instead of
            a copy.
    """

    def __init__(
        self,
        model: Segmenter,
        statistics: str = "batch",
        head: str = AGNOSTIC,
        *,
        others: Sequence[str] = (),
        follows: bool = False,
    ) -> None:
        super().__init__()
        self.head = head
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.model.set_heads({name: self.model.heads[name] for name in (head, *others)})
        self.model.eval()
        norms = batch_norms(model)
        # Not registered: those that are in use are a part of the copy.
        self._norms = batch_norms(self.model)
        for name, norm in self._norms.items():
            norm.momentum = 0.0  # in training mode, too, the running statistics stay
            if follows:
                norm.running_mean = norms[name].running_mean
                norm.running_var = norms[name].running_var
        self.use(statistics)

    def use(self, statistics: str) -> None:
        """Normalise with other statistics from now on."""
        assert statistics in ("batch", "running", "blend"), statistics
        for name, norm in self._norms.items():
            # Frozen batch norms stay in evaluation mode.
            norm.train(statistics == "batch")
            replace_norm(self.model, name, BlendNorm(norm) if statistics == "blend" else norm)

    def train(self, mode: bool = True) -> Teacher:
        """Does nothing: the mode was chosen once."""
        return self

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> Outputs:
        """As the network's; float32 even where it computes in less, like the student's outputs."""
        outputs: Outputs = self.model(images)
        return outputs.full_precision()

    def probabilities(self, images: torch.Tensor, head: str | None = None) -> torch.Tensor:
        """Images [N, 3, H, W] -> probabilities of a head's main level, [N, C, H, W].

        Args:
            images: RGB in 0..255.
            head: one of those that are kept; None: the teacher's own.
        """
        taught = self(images)
        size = images.shape[-2], images.shape[-1]
        low = taught.heads[head or self.head].main
        return upsample(low, size, align_corners=taught.align_corners).softmax(1)

    @torch.no_grad()
    def in_place_of(self, student: Segmenter, *, adapted: bool = False) -> WeightAverage:
        """The student with the teacher's weights, and buffers and other heads of its own.

        Args:
            student: without adapters.
            adapted: whether the teacher has adapters.
        """
        own = copy.deepcopy(self.model)
        if adapted:
            merge_adapters(own.backbone)
        average = WeightAverage.of(student)
        weights = dict(average.network.named_parameters())
        for name, weight in own.named_parameters():
            weights[name].copy_(weight)
        return average

    def follow(self, student: Segmenter, momentum: float) -> None:
        """Move the weights towards the student's: w <- momentum w + (1 - momentum) w_student."""
        move_towards(self.model, student, momentum)
