"""From low-resolution logits to the class of every pixel of a large image."""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi.losses import upsample

LARGE = 2**20
"""From so many upsampled values on, a CPU takes them strip by strip."""


def classes_at(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """The class of every pixel at ``size`` (height, width), as `upsample` and argmax give it.

    Whatever the memory format: of channels-last maps `upsample` alone would round otherwise.

    Args:
        logits: [N, C, h, w].
        size: height and width.
        align_corners: as `upsample` takes it.

    Returns:
        uint8 [N, *size].
    """
    logits = logits.contiguous()
    values = logits.shape[0] * logits.shape[1] * size[0] * size[1]
    if logits.device.type != "cpu" or logits.dtype != torch.float32 or values < LARGE:
        return largest(upsample(logits, size, align_corners=align_corners))
    return classes_by_strips(logits, size, align_corners=align_corners)


def largest(logits: Tensor) -> Tensor:
    """The class of the largest logit, [N, C, H, W] -> uint8 [N, H, W].

    A running maximum over the classes: many times as fast as ``argmax`` over an inner axis, and
    like it the first of equal ones wins.
    """
    logits = logits.detach()
    best = logits[:, 0].clone()
    classes = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for number in range(1, logits.shape[1]):
        values = logits[:, number]
        # Numbers grow: the maximum is the last class that exceeded the best.
        torch.maximum(classes, (values > best).view(torch.uint8).mul_(number), out=classes)
        torch.maximum(best, values, out=best)
    return classes


def classes_by_strips(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """`classes_at` without ever holding the upsampled logits.

    They would be 160 MB for 19 classes at 2048x1024.

    Rows are widened first, by `upsample` itself; then, for the output rows between two neighbours
    of them, class by class is interpolated and kept where it exceeds all before it, all in the
    processor's cache. ``addcmul`` in this order rounds as PyTorch's kernel for contiguous maps
    does: where two classes are nearly equal, another order of the same operations would choose the
    other.
    """
    height, width = size
    widened = (logits.shape[-2], width)
    rows = upsample(logits, widened, align_corners=align_corners)  # [N, C, h, width]
    upper, lower, fractions = _neighbours(logits.shape[-2], height, align_corners=align_corners)
    result = torch.empty(logits.shape[0], height, width, dtype=torch.uint8)
    first = 0
    for row, count in zip(
        *(values.tolist() for values in torch.unique_consecutive(upper, return_counts=True)),
        strict=True,
    ):
        strip = slice(first, first + count)
        fraction = fractions[strip, None]
        rest = 1 - fraction
        below = int(lower[first])
        best = torch.addcmul(rows[:, 0, below, None] * fraction, rows[:, 0, row, None], rest)
        classes = torch.zeros_like(best, dtype=torch.uint8)
        for number in range(1, logits.shape[1]):
            values = torch.addcmul(
                rows[:, number, below, None] * fraction, rows[:, number, row, None], rest
            )
            # Numbers grow: the maximum is the last class that exceeded the best. A masked fill
            # takes ten times as long.
            torch.maximum(classes, (values > best).view(torch.uint8).mul_(number), out=classes)
            torch.maximum(best, values, out=best)
        result[:, strip] = classes
        first += count
    return result


def _neighbours(inputs: int, outputs: int, *, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """For each output position the inputs before and after it, and the fraction of the latter."""
    position = torch.arange(outputs, dtype=torch.float32)
    if align_corners:
        step = (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
        position = torch.tensor(step, dtype=torch.float32) * position
    else:
        step = inputs / outputs
        position = torch.tensor(step, dtype=torch.float32) * (position + 0.5) - 0.5
        position = position.clamp(min=0)
    before = position.long().clamp(max=inputs - 1)
    after = (before + 1).clamp(max=inputs - 1)
    return before, after, position - before
