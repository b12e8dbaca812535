"""Kinds of batch norm: whose statistics a network normalises with while it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.recipe.model import NormKind


class ReplacedNorm(nn.BatchNorm2d):
    """What may stand in the place of a batch norm.

    Attributes:
        after: what that does with what it has normalised, see `what_follows`.
    """

    after: nn.Module

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.after = nn.Identity()


class SyncedBatchNorm(ReplacedNorm):
    """Normalises with the statistics of the whole batch, of which each process has an equal part.

    PyTorch's own runs on GPUs alone and is not a `BatchNorm2d`; this one runs wherever processes
    can talk, in plain operations, which keep about two maps more per layer.

    Attributes:
        apart: normalise with this process's images alone, as in an evaluation, where each has
            others.
    """

    apart = False

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self._normalised(x))  # type: ignore[no-any-return]

    def _normalised(self, x: Tensor) -> Tensor:
        if not self.training or self.apart or distributed.world_size() == 1:
            return super().forward(x)
        own_variance, own_mean = torch.var_mean(
            x.float() if x.itemsize < 4 else x, (0, 2, 3), correction=0
        )
        moments = distributed.all_gather_with_gradient(
            torch.stack([own_mean, own_variance])[None]
        )  # [processes, 2, K]
        mean = moments[:, 0].mean(0)
        variance = (moments[:, 1] + (moments[:, 0] - mean).square()).mean(0)
        self._remember(
            mean.detach(), variance.detach(), distributed.world_size() * x.numel() // x.shape[1]
        )
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, values: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        if self.num_batches_tracked is not None:  # None: the batch is computed a second time
            self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * values / max(values - 1, 1), self.momentum)


class FrozenBatchNorm(ReplacedNorm):
    """Normalises with the running statistics, which stay, while the network trains too."""

    def forward(self, x: Tensor) -> Tensor:
        return self.after(super().forward(x))  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stays in evaluation mode.

        `muhdi.models.statistics` sets ``training`` where a batch's own are wanted.
        """
        return super().train(False)


_KINDS: dict[NormKind, type[ReplacedNorm]] = {"synced": SyncedBatchNorm, "frozen": FrozenBatchNorm}


def what_follows(norm: nn.BatchNorm2d) -> nn.Module:
    """What a batch norm does with what it has normalised: timm's drop some of it and activate it.

    Whatever takes the norm's place has to do the same.
    """
    if isinstance(norm, ReplacedNorm):
        return norm.after
    parts = (getattr(norm, name, None) for name in ("drop", "act"))
    found = [part for part in parts if isinstance(part, nn.Module)]
    return nn.Sequential(*found) if found else nn.Identity()


def convert_norms(module: nn.Module, kind: NormKind) -> None:
    """Replace every batch norm below ``module`` by one of a kind; ``batch`` is what networks have.

    Parameters and statistics stay the same tensors.
    """
    if kind == "batch":
        return
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            convert_norms(child, kind)
        elif type(child) is not _KINDS[kind]:
            norm = _KINDS[kind](child.num_features, child.eps, child.momentum)
            norm.after = what_follows(child)
            norm.weight = child.weight
            norm.bias = child.bias
            norm.running_mean = child.running_mean
            norm.running_var = child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            setattr(module, name, norm.train(child.training))
