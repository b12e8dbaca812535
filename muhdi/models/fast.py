"""Quicker ways for a CPU to compute what a network computes, equal up to rounding.

The network itself stays plain modules, which export as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.backbones.base import Normalise
from muhdi.models.decoders import AsppSum, classify_each
from muhdi.models.segmenter import Segmenter

WIDE = 512
"""From so many channels on `classify_folded` takes one matrix product.

Below, the convolutions themselves are quicker.
"""
NARROW = 64
"""Up to so many channels of the stem, maps with their channels last are quicker."""


def accelerate(network: nn.Module, *, enabled: bool = True) -> None:
    """Let a network, or every network inside a module, compute quicker where it is on a CPU.

    Elsewhere, and without ``enabled``, the plain ways are set. Weights, names and state stay.
    """
    for module in network.modules():
        if isinstance(module, Segmenter):
            on_cpu = next(module.parameters()).device.type == "cpu"
            _accelerate(module, cpu=enabled and on_cpu)


def _accelerate(network: Segmenter, *, cpu: bool) -> None:
    network.classify = classify_folded if cpu else classify_each
    stem = next((m for m in network.backbone.modules() if isinstance(m, nn.Conv2d)), None)
    narrow = stem is not None and stem.out_channels < NARROW
    for module in network.backbone.modules():
        if isinstance(module, nn.Conv2d) and _is_pointwise(module):
            # PyTorch leaves 1x1 convolutions of small batches on one CPU thread to a matrix product
            # that is up to 1.6 times slower than oneDNN's kernel, unless they are dilated. To a 1x1
            # kernel dilation means nothing.
            module.dilation = (2, 2) if cpu else (1, 1)
        elif isinstance(module, Normalise):
            last = cpu and narrow
            module.memory_format = torch.channels_last if last else torch.contiguous_format


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1


def classify_folded(classifiers: list[nn.Module], x: Tensor) -> list[Tensor]:
    """Logits [N, C, h, w] of several classifiers on one map [N, K, h, w], in one product.

    A 3x3 convolution is nine 1x1 convolutions whose outputs are shifted and added. On a wide map
    all taps of all dilations of all classifiers are one matrix product, and the shifts of a
    dilation one `fold`: the gradients of strongly dilated convolutions with few outputs are what is
    slow otherwise.
    """
    sums = [one for one in classifiers if isinstance(one, AsppSum)]
    if x.shape[1] < WIDE or len(sums) < len(classifiers):
        return classify_each(classifiers, x)
    # fold moves tap (i, j) by (i - 1, j - 1) dilations, a convolution reads it from there: hence
    # the flip.
    taps: list[Tensor] = []
    for same_dilation in zip(*(one.weights() for one in sums), strict=True):
        for weight in same_dilation:
            taps.append(weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2))
    # Dilated for the reason given in `_accelerate`.
    products = F.conv2d(x, torch.cat(taps)[:, :, None, None], dilation=2)
    dilations = sums[0].dilations
    total: Tensor | None = None
    for part, dilation in zip(products.chunk(len(dilations), 1), dilations, strict=True):
        shifted = F.fold(part.flatten(2), x.shape[-2:], 3, dilation=dilation, padding=dilation)
        total = shifted if total is None else total + shifted
    assert total is not None
    logits: list[Tensor] = []
    for part, one in zip(total.chunk(len(sums), 1), sums, strict=True):
        logits.append(part + one.bias()[:, None, None])
    return logits
