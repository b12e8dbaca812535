"""CoTTA: continual test-time adaptation (Wang et al. 2022).

Equations of the paper; for segmentation its published code differs where the section says so
(Anonymous-012/SVDP, tools/cotta.py and mmseg/apis/test.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi.errors import RecipeError
from muhdi.evaluation.argmax import largest
from muhdi.evaluation.views import Views, probabilities_of
from muhdi.models.restoring import restore_some
from muhdi.online.base import OnlineContext
from muhdi.online.learner import Learner
from muhdi.recipe.evaluation import SMALLEST
from muhdi.recipe.online import CottaConfig


class Cotta(Learner):
    """A student learns the labels of its mean teacher, whose prediction is the result.

    * The teacher's labels: its prediction where the network as it began is sure of itself, max p* >
      p_th, and elsewhere the mean of its predictions for many views of the image (eq. 2 to 4).
    * The student's step on the cross entropy to these labels (eq. 5).
    * θ' <- m θ' + (1 - m) θ, the teacher follows (eq. 2).
    * Some elements of θ go back to where they began (eq. 7, 8).
    """

    config_class = CottaConfig
    config: CottaConfig

    def __init__(self, config: CottaConfig, context: OnlineContext) -> None:
        super().__init__(config, context)
        self.taught = {name: value.clone() for name, value in self.anchor.items()}
        self.views = Views(flip=config.flip, scales=tuple(config.scales))
        device = next(iter(self.anchor.values())).device
        self.draws = torch.Generator(device).manual_seed(config.seed)

    @property
    def align_corners(self) -> bool:
        """How the teacher's logits are enlarged."""
        return self.inference.align_corners

    def __call__(self, images: Tensor) -> Tensor:
        """The teacher's logits [N, C, h, w]."""
        return self.logits_with(self.taught, images)

    def learn(self, images: Tensor) -> Tensor:
        self._check_sides(images)
        labels = self._labels(images)
        student = self.enlarged(self.inference(images), images)
        if self.config.labels == "hard":
            loss = F.cross_entropy(student, largest(labels).long())
        else:
            loss = F.cross_entropy(student, labels)
        self.step(loss)
        self._follow_and_restore()
        return labels.clamp(min=torch.finfo(labels.dtype).tiny).log()

    def _check_sides(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if min(height, width) < self.views.smallest:
            raise RecipeError(
                f"{self.config.shown_name}: scale {min(self.views.scales):g} makes images of"
                f" {width}x{height} smaller than {SMALLEST} pixels a side; set other scales"
            )

    @torch.no_grad()
    def _labels(self, images: Tensor) -> Tensor:
        """The teacher's probabilities [N, C, H, W]."""
        size = (images.shape[-2], images.shape[-1])
        once = self.enlarged(self(images), images).softmax(1)
        each = probabilities_of(self, images, [size] * len(images), self.views)
        averaged = torch.stack(list(each))
        first = self.enlarged(self.logits_with(self.anchor, images), images)
        confidence = first.softmax(1).amax(1, keepdim=True)
        if self.config.switch == "image":
            confidence = confidence.mean((2, 3), keepdim=True)
        return torch.where(confidence > self.config.threshold, once, averaged)

    @torch.no_grad()
    def _follow_and_restore(self) -> None:
        for name, weight in self.weights.items():
            self.taught[name].lerp_(weight, 1 - self.config.teacher_momentum)
            restore_some(weight, self.anchor[name], self.config.restore, self.draws)

    def reset(self) -> None:
        super().reset()
        for name, value in self.anchor.items():
            self.taught[name].copy_(value)

    def kept(self) -> Iterator[Tensor]:
        yield from super().kept()
        yield from self.taught.values()

    def teacher(self) -> dict[str, Tensor] | None:
        return self.taught
