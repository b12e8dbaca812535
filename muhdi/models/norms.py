"""Kinds of batch norm: whose statistics a network normalises with while it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from muhdi import distributed
from muhdi.recipe.schema import NormKind


class SyncedBatchNorm(nn.BatchNorm2d):
    """Normalises with the statistics of the whole batch, of which each process has an equal part.

    PyTorch's own runs on GPUs alone and is not a `BatchNorm2d`; this one runs wherever processes
    can talk, in plain operations, which keep about two maps more per layer.

    Attributes:
        apart: normalise with this process's images alone, as in an evaluation, where each has
            others.
    """

    apart = False

    def forward(self, x: Tensor) -> Tensor:
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


class FrozenBatchNorm(nn.BatchNorm2d):
    """Normalises with the running statistics, which stay, while the network trains too."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stays in evaluation mode.

        `muhdi.models.statistics` sets ``training`` where a batch's own are wanted.
        """
        return super().train(False)


_KINDS: dict[NormKind, type[nn.BatchNorm2d]] = {
    "batch": nn.BatchNorm2d,
    "synced": SyncedBatchNorm,
    "frozen": FrozenBatchNorm,
}


def convert_norms(module: nn.Module, kind: NormKind) -> None:
    """Replace every batch norm below ``module`` by one of a kind.

    Parameters and statistics stay the same tensors.
    """
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            convert_norms(child, kind)
        elif type(child) is not _KINDS[kind]:
            norm = _KINDS[kind](child.num_features, child.eps, child.momentum)
            norm.weight = child.weight
            norm.bias = child.bias
            norm.running_mean = child.running_mean
            norm.running_var = child.running_var
            norm.num_batches_tracked = child.num_batches_tracked
            setattr(module, name, norm.train(child.training))
