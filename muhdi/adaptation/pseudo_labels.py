"""Pseudo-labels: a mean teacher labels the target, and says what each label counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.adaptation.choice import best_statistics
from muhdi.adaptation.collapse import CollapseWatch
from muhdi.losses import all_pixels
from muhdi.method import Batches, MethodContext
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import batch_norms
from muhdi.models.teacher import Teacher
from muhdi.passes import Batch
from muhdi.recipe.pseudo_labels import PseudoLabelConfig, TeacherStatistics
from muhdi.windows import inside

Blend = Callable[[Tensor, Tensor], Tensor]
"""Images and the teacher's probabilities of them -> those that the labels are made from."""


class PseudoLabels(nn.Module):
    """A mean teacher (Tarvainen & Valpola 2017) that labels target images.

    With the teacher t: y = argmax p_t(x), which counts where max p_t reaches a threshold (DACS,
    Tranheden et al. 2021), or everywhere as much as the share of pixels that reach it (DAFormer,
    Hoyer et al. 2022, eq. 4). After the student's update t <- m t + (1 - m) s.

    Args:
        config: how the teacher follows and labels.
        context: of the method that uses the labels.

    Attributes:
        blends: what others make of the teacher's probabilities, in turn.
    """

    def __init__(self, config: PseudoLabelConfig, context: MethodContext) -> None:
        super().__init__()
        self.config = config
        self.classes = context.classes
        self.heads = context.heads
        self.targets = context.targets
        self.watch = CollapseWatch(context.names, context.iterations)
        # Each target has its own; the first one's name is that in states of a single target.
        self.other_watches = nn.ModuleList(
            CollapseWatch(context.names, context.iterations) for _ in context.targets[1:]
        )
        self.statistics: TeacherStatistics = config.teacher_statistics
        self.updates = 0
        # Methods of others, which are saved by themselves.
        self.blends: Sequence[Blend] = ()
        self._untold: list[str] = []

    def begin(self, network: Segmenter, batches: Batches) -> None:
        """The teacher starts as a copy of the student."""
        if self.statistics == "auto":
            self.statistics = "blend"
            # Of an interrupted step there are no images: its state holds the choice.
            chosen = None
            if batch_norms(network):
                chosen = best_statistics(network, self.heads, batches)
            if chosen is not None:
                self.statistics, remark = chosen
                self._untold.append(remark)
        first, *others = self.heads
        self.teacher = Teacher(network, self.statistics, first, others=others, follows=True)

    def forward(self, target: Batch) -> Batch:
        """The images with pseudo-labels [N, H, W], and what these count."""
        probabilities = self._probabilities(target)
        for blend in self.blends:
            probabilities = blend(target.images, probabilities)
        confidence, pseudo = probabilities.max(1)
        confident = confidence >= self._threshold(confidence, pseudo)
        counts = confident.to(confidence.dtype)
        if self.config.confident == "share":
            counts = distributed.all_reduce_mean(counts.mean()).expand_as(counts)
        counts = counts * inside(target, self.config.margins)
        self.watches[target.target].see(confidence, pseudo)
        pixels = self._pixels(pseudo)
        return Batch(target.images, pseudo, counts, pixels, target=target.target)

    @property
    def watches(self) -> list[CollapseWatch]:
        """Who watches over the labels of each target."""
        others = [watch for watch in self.other_watches if isinstance(watch, CollapseWatch)]
        return [self.watch, *others]

    def _probabilities(self, target: Batch) -> Tensor:
        """The teacher's [N, C, H, W]."""
        head = self.heads[target.target]
        watch = self.watches[target.target]
        own = self.teacher.probabilities(target.images, head)
        if not (self.config.mirror or watch.asks_for_mirror()):
            return own
        mirrored = self.teacher.probabilities(target.images.flip(-1), head).flip(-1)
        watch.compare(own, mirrored)
        return (own + mirrored) / 2 if self.config.mirror else own

    def _threshold(self, confidence: Tensor, pseudo: Tensor) -> Tensor | float:
        """One threshold for all pixels, or one per predicted class.

        Per class it is min(threshold, the median confidence of the class in the whole batch).
        """
        if self.config.threshold_per == "pixel":
            return self.config.threshold
        everywhere = distributed.all_gather(confidence).flatten()
        predicted = distributed.all_gather(pseudo).flatten()
        medians = class_medians(everywhere, predicted, self.classes)
        return medians.clamp(max=self.config.threshold)[pseudo]

    def _pixels(self, pseudo: Tensor) -> Tensor | None:
        """What the loss is divided by; None: the labelled pixels, which the loop counts."""
        if self.config.mean_over == "labelled":
            return None
        return all_pixels(pseudo)

    def follow(self, student: Segmenter) -> None:
        """The student has made an update."""
        self.updates += 1
        for watch in self.watches:
            watch.remember()
        self.teacher.follow(student, self._momentum())

    def _momentum(self) -> float:
        """Of the update that is number ``updates``, from 1."""
        config = self.config
        if config.momentum_ramp == "none":
            return config.momentum
        # As if before the next iteration, whose number from 0 is `updates`; or after this one.
        iteration = self.updates if config.momentum_ramp == "before" else self.updates - 1
        return min(1 - 1 / (iteration + 1), config.momentum)

    def remarks(self) -> list[str]:
        """What the user should know and was not told before; it waits for the device."""
        told = list(self._untold)
        for name, watch in zip(self.targets, self.watches, strict=True):
            of = "" if len(self.targets) == 1 else f"{name}: "
            told += [f"{of}{line}" for line in watch.warnings()]
        self._untold = []
        return told

    def get_extra_state(self) -> dict[str, Any]:
        """What is saved besides tensors."""
        return {
            "updates": self.updates,
            "statistics": self.statistics,
            "untold": list(self._untold),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What `get_extra_state` gave; the tensors follow."""
        self.updates = state["updates"]
        self._untold = list(state["untold"])
        if state["statistics"] != self.statistics:
            self.statistics = state["statistics"]
            self.teacher.use(self.statistics)


def class_medians(confidence: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """The median confidence of each class's pixels; 1 where a class has none.

    Of an even number it is the lower of the two in the middle. Nothing waits for the device.

    Args:
        confidence: [P], in 0..1.
        predicted: int64 [P].
        classes: number of classes C.

    Returns:
        [C].
    """
    # By class, then by confidence: float64 holds both in one number.
    order = (2.0 * predicted + confidence.double()).argsort()
    pixels = confidence.new_zeros(classes, dtype=torch.int64)
    pixels.scatter_add_(0, predicted, torch.ones_like(predicted))
    first = pixels.cumsum(0) - pixels
    middle = (first + (pixels - 1).clamp(min=0) // 2).clamp(max=len(order) - 1)
    # Not computed back from the sum, which rounds: the pixel of the median must reach it.
    medians = confidence[order[middle]]
    return torch.where(pixels > 0, medians, torch.ones_like(medians))
