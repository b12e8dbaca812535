"""The fully convolutional discriminator of AdvEnt."""

from __future__ import annotations

import itertools

from torch import nn


class Discriminator(nn.Sequential):
    """Five 4x4 convolutions of stride 2.

    Maps [N, C, H, W] -> scores [N, 1, H/32, W/32], high for target.

    The structure of DCGAN's discriminator without batch norm, as ADVENT uses it (Vu et al. 2019,
    section 4.2).

    Args:
        classes: C.
        width: channels of the first layer; the next three double it each.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        channels = (classes, width, 2 * width, 4 * width, 8 * width)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Conv2d(channels[-1], 1, 4, 2, 1))
