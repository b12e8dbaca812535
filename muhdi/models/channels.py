"""Networks of images with more channels than red, green and blue."""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi.recipe.section import RGB


def widened(weight: Tensor, channels: int) -> Tensor:
    """The weight of a convolution of colours for images of more channels.

    Each further channel begins with the mean of the filters of red, green and blue: so its edges
    are seen from the first iteration, by filters that know edges. With zeros the network would
    begin as it was, and have to learn that the channel is there.

    Args:
        weight: [K, 3, h, w].
        channels: C, at least 3.

    Returns:
        [K, C, h, w].
    """
    mean = weight.mean(1, keepdim=True)
    return torch.cat([weight, mean.expand(-1, channels - RGB, -1, -1)], 1)


def with_channels(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network of colours as those of one that takes more channels.

    Args:
        state: weights by name.
        own: those of the network that they are for.
    """
    found = dict(state)
    for name, value in state.items():
        wanted = own[name].shape if name in own else value.shape
        is_of_colours = value.ndim == 4 and value.shape[1] == RGB < wanted[1]
        if is_of_colours and wanted[:1] + wanted[2:] == value.shape[:1] + value.shape[2:]:
            found[name] = widened(value, wanted[1])
    return found
