"""Leaving out batches whose loss or gradient is not finite, up to a number per stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.losses import Losses
from muhdi.training.nonfinite import IterationLosses, all_finite, image_names, stop_together


class SkipBad:
    """Undoes iterations with a bad batch: their update is left out, and buffers are put back.

    A skipped batch uses up its place in the schedule and in the random numbers. Looking at every
    iteration waits for the device each time, so with ``allowed`` 0 nothing is looked at.

    Args:
        allowed: bad batches that may be skipped in the stage.
        modules: everything whose buffers the passes of an iteration may change.

    Attributes:
        skipped: bad batches so far.
    """

    def __init__(self, allowed: int, modules: Sequence[nn.Module]) -> None:
        self.allowed = allowed
        self.modules = modules
        self.skipped = 0
        self._before: list[tuple[Tensor, Tensor]] = []

    def snapshot(self) -> None:
        """Before an iteration: remember the buffers, such as running statistics."""
        if not self.allowed:
            return
        buffers = [buffer for module in self.modules for buffer in module.buffers()]
        self._before = [(buffer, buffer.detach().clone()) for buffer in buffers]

    @torch.no_grad()
    def roll_back_if_bad(self, losses: Losses, gradients: Iterable[Tensor]) -> bool:
        """After the passes, before any update: whether the update must be left out."""
        if not self.allowed:
            return False
        good = all_finite(losses.values()) and all_finite(gradients)
        # One process alone may have the bad image; all of them skip the batch.
        if all(distributed.all_gather_objects(good)):
            return False
        self.skipped += 1
        for buffer, before in self._before:
            buffer.copy_(before)
        return True

    def message(self, losses: IterationLosses) -> str:
        """A line on the batch that was just skipped.

        Raises:
            RunError: it is one more than may be skipped.
        """
        broken = losses.first_nonfinite()
        subject = f"the loss {broken}" if broken else "a gradient"
        what = f"{subject} is not finite at iteration {losses.iteration}"
        if self.skipped > self.allowed:
            stop_together(f"{what}, after {self.allowed} bad batches were skipped", losses.images)
        names = image_names(losses.images)
        return f"{what}: skipped bad batch {self.skipped} of at most {self.allowed}: {names}"
