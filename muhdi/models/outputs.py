"""What a network gives: logits by head and level, and features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from muhdi.losses import upsample

AGNOSTIC = "agnostic"
"""The head that is the model's output; it must serve every domain."""

SPECIALIST = "specialist"
"""A head that learns the current target alone."""


def specialist(target: int) -> str:
    """The head that learns one of several targets alone, by its number from 0."""
    return f"{SPECIALIST}_{target + 1}"


class Levels(NamedTuple):
    """Logits of one head, [N, C, h, w]: ``aux`` after stage 3 of the backbone, ``main`` after 4.

    ``aux`` is None in a network of a single level.
    """

    aux: Tensor | None
    main: Tensor

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """The levels that there are by name, aux first."""
        if self.aux is None:
            return (("main", self.main),)
        return (("aux", self.aux), ("main", self.main))

    def map(self, function: Callable[[Tensor], Tensor]) -> Levels:
        """``function`` of every level."""
        aux = None if self.aux is None else function(self.aux)
        return Levels(aux, function(self.main))

    def upsampled(self, size: tuple[int, int], *, align_corners: bool) -> Levels:
        """Every level at ``size`` (height, width)."""
        return self.map(lambda logits: upsample(logits, size, align_corners=align_corners))

    def detach(self) -> Levels:
        """Every level, cut off from the graph."""
        return self.map(Tensor.detach)


class Outputs:
    """What one forward pass gives.

    Attributes:
        heads: logits at low resolution, by head.
        features: what the backbone gives, from fine to coarse, and what the decoder makes of it,
            [N, K, h, w] each.
        align_corners: how logits are enlarged, see `muhdi.losses.upsample`.
    """

    def __init__(
        self, heads: dict[str, Levels], features: Sequence[Tensor], *, align_corners: bool = True
    ) -> None:
        self.heads = heads
        self.features = tuple(features)
        self.align_corners = align_corners
        self._upsampled: dict[tuple[str, tuple[int, int]], Levels] = {}

    def upsampled(self, head: str, size: tuple[int, int]) -> Levels:
        """Logits of a head at ``size`` (height, width).

        They are computed once, however many losses ask for them.
        """
        key = (head, size)
        if key not in self._upsampled:
            levels = self.heads[head]
            self._upsampled[key] = levels.upsampled(size, align_corners=self.align_corners)
        return self._upsampled[key]

    def full_precision(self) -> Outputs:
        """The same in float32, where the network computes in 16 bits: losses need the digits."""
        heads = {name: levels.map(_full) for name, levels in self.heads.items()}
        features = [_full(feature) for feature in self.features]
        return Outputs(heads, features, align_corners=self.align_corners)


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
