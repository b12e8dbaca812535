"""Hiera (Ryali et al. 2023) on images of any size.

transformers and timm build Hiera for images of one size, to which its learned positions and the
order of its tokens belong. Its blocks do not depend on it: they are run here, on positions and in
an order that are made for the image at hand.

Hiera orders its tokens by their place in the 2x2 that a pooling joins: all upper left ones come
first. It does so once for every pooling that is to come, and windows of attention are the tokens of
all these places. (`HieraBackbone` of transformers 5.24 does not order them, as its own `HieraModel`
does, so that it pools and attends to lines of tokens instead of squares; here they are ordered.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

Sides = tuple[int, int]
"""Lines and columns."""


class Order(NamedTuple):
    """The order of the tokens of a map.

    Attributes:
        height: lines of the map, a multiple of the stride to the power of ``levels``.
        width: its columns, the same.
        stride: of one pooling.
        levels: how many poolings the order is prepared for.
    """

    height: int
    width: int
    stride: Sides
    levels: int

    def tokens(self, maps: Tensor) -> Tensor:
        """Maps [N, K, height, width] -> tokens [N, height * width, K]."""
        count, channels = maps.shape[:2]
        split = maps.reshape(count, channels, *self._coarse_to_fine)
        return split.permute(0, *self._fine_to_coarse, 1).reshape(count, -1, channels)

    def maps(self, tokens: Tensor) -> Tensor:
        """Tokens [N, height * width, K] -> maps [N, K, height, width]."""
        count, _, channels = tokens.shape
        sides = [1, 1, *self._coarse_to_fine]
        split = tokens.reshape(count, *(sides[axis] for axis in self._fine_to_coarse), channels)
        places = [1 + self._fine_to_coarse.index(axis) for axis in range(2, len(sides))]
        joined = split.permute(0, len(sides) - 1, *places)
        return joined.reshape(count, channels, self.height, self.width)

    def pooled(self) -> Order:
        """The order after a pooling."""
        height = self.height // self.stride[0]
        width = self.width // self.stride[1]
        return Order(height, width, self.stride, self.levels - 1)

    @property
    def _coarse_to_fine(self) -> list[int]:
        """Lines, then columns, each split into what is left of them and one stride per level."""
        lines = self.height // self.stride[0] ** self.levels
        columns = self.width // self.stride[1] ** self.levels
        return [lines, *[self.stride[0]] * self.levels, columns, *[self.stride[1]] * self.levels]

    @property
    def _fine_to_coarse(self) -> list[int]:
        """Axes of a split map [N, K, ...] as tokens have them: the finest lines and columns first.

        What is left of the lines and columns comes last.
        """
        lines = range(2, 3 + self.levels)
        columns = range(3 + self.levels, 4 + 2 * self.levels)
        pairs = zip(reversed(lines), reversed(columns), strict=True)
        return [axis for pair in pairs for axis in pair]


def unit_of(patch_stride: Sequence[int], mask_unit: Sequence[int]) -> int:
    """Pixels that sides have to be multiples of: those of a mask unit, 32 as published.

    Args:
        patch_stride: lines and columns of pixels to one of tokens.
        mask_unit: lines and columns of tokens.
    """
    sides = (step * side for step, side in zip(patch_stride, mask_unit, strict=True))
    return math.lcm(*sides)


def transformers_maps(model: Any, images: Tensor) -> tuple[Tensor, ...]:
    """What a `HieraBackbone` of transformers makes of images.

    Its positions, learned for one size, are as they were at that size. At others their mean over
    the mask units (8x8 tokens, the windows of its first stages) is repeated, and the rest is
    interpolated: interpolating a part that repeats itself would shift it against the windows, which
    is what Bolya et al. 2024 ("Window Attention is Bugged") warn of.

    Args:
        model: the network.
        images: normalised, [N, 3, H, W], of sides that are multiples of `unit_of`.

    Returns:
        One map [N, K, h, w] for each of its ``out_features``, with its norm.
    """
    config = model.config
    grid = [side // step for side, step in zip(config.image_size, config.patch_stride, strict=True)]
    learned = model.embeddings.position_embeddings.transpose(1, 2).unflatten(2, grid)
    maps = model.embeddings.patch_embeddings.projection(images)
    height, width = maps.shape[2:]
    order = Order(height, width, tuple(config.query_stride), len(config.depths) - 1)
    places = _spread(*_parts(learned, tuple(config.masked_unit_size)), (height, width))
    tokens = order.tokens(maps + places)
    found = []
    for number, stage in enumerate(model.encoder.stages):
        tokens = stage(tokens)[0]
        if 1 <= number <= config.num_query_pool:
            order = order.pooled()
        name = f"stage{number + 1}"
        if name in model.out_features:
            found.append(order.maps(model.hidden_states_norms[name](tokens)))
    return tuple(found)


class HieraStages(nn.Module):
    """Stages of timm's Hiera as maps, of images of any size.

    Positions at other sizes are as in `transformers_maps`. Networks that learned the part of the
    windows by itself (``abswin``) keep it, and interpolate the other with antialiasing, as timm
    does.

    Args:
        model: the network; blocks behind the last stage that is given, and its classifier, go.
        indices: of the stages, from 0.
    """

    def __init__(self, model: Any, indices: list[int]) -> None:
        super().__init__()
        self.model = model
        stages = model.prune_intermediate_layers(indices)
        self.ends = [model.stage_ends[stage] for stage in stages]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images [N, 3, H, W] -> one map [N, K, h, w] for each stage."""
        model: Any = self.model
        maps = model.patch_embed.proj(images)
        height, width = maps.shape[2:]
        order = Order(height, width, tuple(model.q_stride), len(model.stage_ends) - 1)
        pools = [end + 1 for end in model.stage_ends[: model.q_pool]]
        tokens = order.tokens(maps + self._places((height, width)))
        found = []
        for number, block in enumerate(model.blocks):
            tokens = block(tokens)
            if number in pools:
                order = order.pooled()
            if number in self.ends:
                found.append(order.maps(tokens))
        return found

    def _places(self, size: Sides) -> Tensor:
        """The positions [1, K, h, w] of a map of a size."""
        model: Any = self.model
        if model.pos_embed_win is not None:
            return _spread(model.pos_embed, model.pos_embed_win, size, antialias=True)
        learned = model.pos_embed.transpose(1, 2).unflatten(2, model.tokens_spatial_shape)
        return _spread(*_parts(learned, tuple(model.mask_unit_size)), size)


def _parts(learned: Tensor, unit: Sides) -> tuple[Tensor, Tensor]:
    """Positions [1, K, h, w] as a sum: what is left, and the mean over units [1, K, *unit]."""
    height, width = learned.shape[2:]
    repeats = height // unit[0], width // unit[1]
    units = learned.unflatten(3, (repeats[1], unit[1])).unflatten(2, (repeats[0], unit[0]))
    mean = units.mean((2, 4))
    return learned - mean.repeat(1, 1, *repeats), mean


def _spread(rest: Tensor, window: Tensor, size: Sides, *, antialias: bool = False) -> Tensor:
    """Positions [1, K, *size]: one part interpolated, the other repeated."""
    repeats = size[0] // window.shape[2], size[1] // window.shape[3]
    everywhere = functional.interpolate(
        rest, size=size, mode="bicubic", align_corners=False, antialias=antialias
    )
    return everywhere + window.repeat(1, 1, *repeats)
