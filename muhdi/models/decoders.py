"""The classifier of a head.

A sum of dilated convolutions, and a quick way to compute several of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.backbones.resnet import pointwise

WIDE = 512
"""From so many channels on `classify` takes one matrix product.

Below, the convolutions themselves are quicker.
"""


class Classifier(nn.Module):
    """Sum of dilated 3x3 convolutions, one per dilation (DeepLab-v2's ASPP without fusion).

    `classify` applies it.
    """

    def __init__(self, channels: int, classes: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.convs = nn.ModuleList(nn.Conv2d(channels, classes, 3, 1, d, d) for d in dilations)
        for weight in self.weights():
            nn.init.normal_(weight, 0.0, 0.01)

    def weights(self) -> list[Tensor]:
        """One weight [C, K, 3, 3] per dilation."""
        return [conv.get_parameter("weight") for conv in self.convs]

    def bias(self) -> Tensor:
        """The sum of the dilations' biases, [C]."""
        # One after another: the gradient of a stacked sum would be one storage for all of them, to
        # which the second backward pass of an iteration would add once per bias.
        first, *others = (conv.get_parameter("bias") for conv in self.convs)
        total: Tensor = first
        for bias in others:
            total = total + bias
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, K, h, w] -> logits [N, C, h, w], the plain sum."""
        first, *others = self.convs
        logits: Tensor = first(x)
        for conv in others:
            logits = logits + conv(x)
        return logits


def classify(classifiers: Sequence[Classifier], x: Tensor) -> list[Tensor]:
    """Logits [N, C, h, w] of several classifiers on one map [N, K, h, w].

    A 3x3 convolution is nine 1x1 convolutions whose outputs are shifted and added. On a wide map
    all taps of all dilations of all classifiers are one matrix product, and the shifts of a
    dilation one `fold`: the gradients of strongly dilated convolutions with few outputs are what is
    slow otherwise. Equal to the plain sums up to rounding.
    """
    if x.shape[1] < WIDE:
        return [classifier(x) for classifier in classifiers]
    # fold moves tap (i, j) by (i - 1, j - 1) dilations, a convolution reads it from there: hence
    # the flip.
    taps = [
        weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        for same_dilation in zip(*(classifier.weights() for classifier in classifiers), strict=True)
        for weight in same_dilation
    ]
    products = pointwise(x, torch.cat(taps)[:, :, None, None])
    dilations = classifiers[0].dilations
    shifted = [
        F.fold(part.flatten(2), x.shape[-2:], 3, dilation=dilation, padding=dilation)
        for part, dilation in zip(products.chunk(len(dilations), 1), dilations, strict=True)
    ]
    total = shifted[0]
    for part in shifted[1:]:
        total = total + part
    logits = total.chunk(len(classifiers), 1)
    return [
        part + each.bias()[:, None, None] for part, each in zip(logits, classifiers, strict=True)
    ]
