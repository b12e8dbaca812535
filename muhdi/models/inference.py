"""A network as it is used: with one head, and one choice of normalisation statistics."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from muhdi.errors import RecipeError, nearest
from muhdi.models.ensemble import Ensemble
from muhdi.models.fast import accelerate
from muhdi.models.image_norms import BlendNorm, ImageNorm, replace_norm
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import STORED, Statistics, batch_norms

Network = Segmenter | Ensemble
"""What can be used."""


class Inference(nn.Module):
    """Images in, logits out: the one form for scoring, prediction, adaptation and export.

    It shares the weights of the network and never changes it: it has modules of its own, in
    evaluation mode, whose parameters and buffers are the network's.

    Args:
        network: whose weights are used, also when they change later.
        head: whose logits are given.
        statistics: what batch norms use, one of `muhdi.models.statistics.CHOICES`; ``none`` for a
            network without batch norms.
        stored: the statistics of the domain, or of all together, with ``domain`` and ``pooled``.
        fast: use the ways of computing that are quick on a CPU; without them it can be exported.

    Raises:
        RecipeError: the network has no such head or statistics.
    """

    def __init__(
        self,
        network: Network,
        head: str = AGNOSTIC,
        statistics: str = "running",
        stored: Statistics | None = None,
        *,
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_head(network, head)
        check_statistics(network, statistics)
        assert (stored is not None) == (statistics in STORED)
        self.head = head
        self.statistics = statistics
        self.network = _sharing_weights(network)
        accelerate(self.network, enabled=fast)
        for name, norm in batch_norms(self.network).items():
            if statistics == "image":
                replace_norm(self.network, name, ImageNorm(norm))
            elif statistics == "blend":
                replace_norm(self.network, name, BlendNorm(norm))
            elif stored is not None:
                norm.running_mean = stored[f"{name}.running_mean"].to(norm.weight)
                norm.running_var = stored[f"{name}.running_var"].to(norm.weight)
        self.eval()

    @property
    def align_corners(self) -> bool:
        """How its logits are enlarged, see `muhdi.losses.upsample`."""
        return bool(self.network.align_corners)

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Inference:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images RGB [N, 3, H, W], 0..255 -> low-resolution logits [N, C, h, w]."""
        logits: Tensor = self.network.segment(images, self.head)
        return logits


def check_head(network: Network, head: str) -> None:
    """Refuse a head that the network does not have."""
    networks = network.models if isinstance(network, Ensemble) else [network]
    for one in networks:
        heads = list(one.heads)  # type: ignore[arg-type]
        if head not in heads:
            known = ", ".join(heads)
            raise RecipeError(
                f"head {head}: the network has the heads {known}{nearest(head, heads)}"
            )


def check_statistics(network: Network, statistics: str) -> None:
    """Refuse statistics that the network cannot use."""
    known = list(network.statistics_choices)
    if statistics in known:
        return
    if known == ["none"]:
        raise RecipeError(
            f"statistics {statistics}: the network has no batch norms; omit statistics"
        )
    raise unknown_statistics(statistics, known)


def unknown_statistics(statistics: str, known: Sequence[str]) -> RecipeError:
    """The error of whoever asks for statistics that do not exist."""
    hint = nearest(statistics, known)
    return RecipeError(f"statistics {statistics}: must be one of {', '.join(known)}{hint}")


def _sharing_weights(network: Network) -> Any:
    """Modules like the network's, with its very parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    # What `deepcopy` finds in its memo counts as copied already.
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    # A module has a dozen places for hooks, nearly always empty: half of the time, if left to it.
    for module in network.modules():
        for value in vars(module).values():
            if type(value) in (OrderedDict, dict, set) and not value:
                memo[id(value)] = value.copy()
    return deepcopy(network, memo)
