"""The objectives as pure functions of tensors.

Every function states its shapes; nothing here has state.

Notation: N images, C classes, H x W pixels. *Logits* are raw scores [N, C, H, W]; *labels* int64
[N, H, W] with 255 for pixels that do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from muhdi.taxonomy import IGNORE

Losses = dict[str, Tensor]
"""Named loss terms, each already multiplied with its weight; their sum is what is minimised."""


def upsample(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Logits [N, C, h, w] -> [N, C, *size], bilinear.

    With ``align_corners`` the centres of the corner pixels coincide, otherwise their outer corners;
    a network's decoder says which.
    """
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


def labelled_pixels(labels: Tensor) -> Tensor:
    """The number of pixels that count, a scalar."""
    return (labels != IGNORE).sum()


def all_pixels(labels: Tensor) -> Tensor:
    """The number of pixels, whether they count or not, a scalar on their device."""
    return torch.full((), labels.numel(), dtype=torch.int64, device=labels.device)


def cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None = None, pixels: Tensor | None = None
) -> Tensor:
    """Cross entropy, averaged over the pixels that count; 0, with zero gradients, where none does.

    Args:
        logits: [N, C, H, W], at the size of the labels.
        labels: [N, H, W], values 0..C-1 or 255.
        weight: optional [N, H, W] in 0..1, a factor per pixel (self-training's confidence). The
            average stays over the number of labelled pixels, so that a batch of low confidence has
            a small loss.
        pixels: what the sum is divided by; None: `labelled_pixels` of these labels. Where a batch
            is computed in parts whose losses are averaged, it is the parts' mean number: so the
            average is the whole batch's.
    """
    if weight is None:
        total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    else:
        total = (
            F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none") * weight
        ).sum()
    return total / (labelled_pixels(labels) if pixels is None else pixels).clamp(min=1)


def entropy_map(probabilities: Tensor) -> Tensor:
    """Weighted self-information per class and pixel.

    It is -p log2(p) / log2(C), equation 2 of ADVENT (Vu et al. 2019). Shape in and out
    [N, C, H, W]; summed over classes it is the normalised entropy, in 0..1.
    """
    return -probabilities * torch.log2(probabilities + 1e-30) / math.log2(probabilities.shape[1])


def pixel_entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of every pixel in nats, [N, C, H, W] -> [N, H, W]: 0 to ln C."""
    log_probabilities = logits.log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1)


def entropy(probabilities: Tensor) -> Tensor:
    """Normalised entropy, averaged over pixels: 0 is certain, 1 uniform (ADVENT, equation 3)."""
    return entropy_map(probabilities).sum(1).mean()


def adversarial(scores: Tensor, is_source: bool) -> Tensor:
    """Binary cross entropy of discriminator scores (raw, any shape) against one domain.

    Source 0, target 1.
    """
    return F.binary_cross_entropy_with_logits(
        scores, torch.full_like(scores, 0.0 if is_source else 1.0)
    )


def kl_distillation(teacher: Tensor, student: Tensor, reduction: str = "pixel") -> Tensor:
    """KL(teacher || student) of two logit maps.

    Equations 5 and 6 of MuHDi (Saporta et al. 2022).

    Args:
        teacher: [N, C, H, W].
        student: [N, C, H, W].
        reduction: ``pixel`` sums over classes and averages over pixels. ``element`` averages over
            classes too, as the published code does: C times smaller.
    """
    divergence = F.kl_div(
        F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="none", log_target=True
    )
    return divergence.mean() if reduction == "element" else divergence.sum(1).mean()


def mse_distillation(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of the probabilities of two logit maps [N, C, H, W]."""
    return F.mse_loss(F.softmax(student, 1), F.softmax(teacher, 1))


def local_pod(
    old: Sequence[Tensor],
    new: Sequence[Tensor],
    scales: Sequence[int] = (1, 2, 4),
    *,
    normalised: bool = False,
) -> Tensor:
    """Local POD of two lists of features.

    Equations 4 to 6 of PLOP (Douillard et al. 2021), with squared activations as in PODNet.

    Each map [N, K, H, W] is squared; for every scale s it is cut into s x s cells of (H//s) x
    (W//s) pixels (what is left over at the right and the bottom is dropped, and a scale that is
    finer than the map is skipped); each cell is averaged over its rows and over its columns. The
    loss is the L2 norm of the difference of all these averages, averaged over images and maps.

    ``normalised``: the averages of an image and map are scaled to length 1 before the difference,
    as in PODNet (Douillard et al. 2020). Then the loss lies in 0 to 1.41, whatever the features'
    scale, which differs by orders of magnitude between batch norms and layer norms.
    """
    distance = _direction_distance if normalised else _pod_distance
    losses = [distance(a, b, scales) for a, b in zip(old, new, strict=True)]
    return torch.stack(losses).mean()


def _pod_distance(old: Tensor, new: Tensor, scales: Sequence[int]) -> Tensor:
    # Pooling is linear, so one pooling of the difference of squares stands for two.
    difference = _pooled(new.square() - old.square(), scales)
    norms: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return norms.mean()


def _direction_distance(old: Tensor, new: Tensor, scales: Sequence[int]) -> Tensor:
    first = F.normalize(_pooled(old.square(), scales), dim=1)
    second = F.normalize(_pooled(new.square(), scales), dim=1)
    norms: Tensor = torch.linalg.vector_norm(second - first, dim=1)
    return norms.mean()


def _pooled(maps: Tensor, scales: Sequence[int]) -> Tensor:
    """The averages of the rows and the columns of all cells, [N, ...]."""
    height, width = maps.shape[-2:]
    parts = []
    for scale in scales:
        rows = height // scale
        columns = width // scale
        if not rows or not columns:
            continue
        cut = maps[..., : rows * scale, : columns * scale]
        cells = cut.unflatten(-2, (scale, rows)).unflatten(-1, (scale, columns))
        parts += [cells.mean(-1).flatten(1), cells.mean(-3).flatten(1)]
    return torch.cat(parts, 1)
