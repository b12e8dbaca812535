"""What adapters of other packages' networks share.

Such a network says little of what it gives. Channels, strides and unused parameters are found by
passing images without pixels through it (on PyTorch's ``meta`` device).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from muhdi.errors import RecipeError
from muhdi.models.backbones.base import Backbone, Family, FeatureInfo, Normalise
from muhdi.models.channels import with_channels
from muhdi.recipe.backbones import Channels
from muhdi.recipe.section import RGB, Size

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
"""Of red, green and blue in 0 to 1: what networks are trained with that say nothing else."""
PROBE = 224
"""Side of the images that find strides: a multiple of all patches and strides in use."""
DINOV3_LICENCE = "DINOv3's weights are under the DINOv3 License, and so is what is made of them"

Build = Callable[[], nn.Module]
Maps = Callable[[nn.Module, Tensor], Sequence[Tensor]]
"""A network and normalised images [N, C, H, W] -> one map [N, K, h, w] for each feature."""
Shown = Callable[[nn.Module, Size], Sequence[Tensor]]
"""A network and the width and height of an image -> its maps."""


class Shape(NamedTuple):
    """What a network gives.

    Attributes:
        features: from fine to coarse.
        multiple: of the sides that it takes.
        family: ``plain`` where all features have one stride, ``dilated`` where the last two do.
        unused: names of parameters that no feature depends on.
    """

    features: list[FeatureInfo]
    multiple: int
    family: Family
    unused: list[str]


_SHAPES: dict[tuple[str, int | None, int], Shape] = {}
"""Of networks that were probed before in this process: a run builds its network several times."""


class ProbedBackbone(Backbone):
    """A network of another package, see `adopt`."""

    dilations: tuple[int, ...] = (1,)
    model: nn.Module
    mean: Channels
    std: Channels

    def adopt(self, model: nn.Module, shape: Shape, mean: Any, std: Any) -> None:
        """Have a network inside.

        Args:
            model: the network; parameters that no feature depends on are not trained.
            shape: what it gives.
            mean: of red, green and blue in 0 to 1, which normalises images.
            std: the same for the deviation.
        """
        self.model = model
        self.features = list(shape.features)
        self.multiple = shape.multiple
        self.family = shape.family
        if shape.family == "plain":
            self.decoder = "light"
        elif shape.family == "pyramid":
            self.decoder = "segformer"
        else:
            self.dilations = _deeplab_dilations(shape.features[-1].stride)
        for name in shape.unused:
            model.get_parameter(name).requires_grad_(False)
        self.mean = _three(mean)
        self.std = _three(std)
        red, green, blue = (255 * value for value in self.mean)
        self.padding = (red, green, blue)
        self.normalise = Normalise(self.padding, tuple(255 * value for value in self.std))

    def exchange(self, name: str, wider: nn.Module, channels: int) -> None:
        """Have a network of more channels inside, with the weights of this one.

        Args:
            name: of the network, for messages.
            wider: the same network, built for these channels.
            channels: of the images.

        Raises:
            RecipeError: what comes to the colours first is no convolution.
        """
        own = wider.state_dict()
        state = with_channels(self.model.state_dict(), own)
        others = [key for key, value in state.items() if value.shape != own[key].shape]
        if others:
            raise RecipeError(
                f"channels: {name} takes images to {others[0]}, which is no convolution of {RGB}"
                f" channels and cannot be widened to {channels}; choose another model.backbone"
            )
        wider.load_state_dict(state)
        for key, weight in self.model.named_parameters():
            wider.get_parameter(key).requires_grad_(weight.requires_grad)
        self.model = wider.train(self.model.training)
        self._take(channels)


def probe(
    name: str,
    identity: str,
    build: Build,
    maps_of: Maps,
    unit: int | None = None,
    channels: int = RGB,
) -> Shape:
    """What a network gives, found without computing anything and without a random number.

    Args:
        name: of the network, for messages.
        identity: all that the network depends on; of equal ones the first alone is probed.
        build: makes it.
        maps_of: its features.
        unit: what its sides may have to be multiples of, in pixels, where multiples of its largest
            stride are not enough; None: no such number is known.
        channels: of its images.

    Raises:
        RecipeError: it takes images of one size alone, or its maps do not cover them.
    """
    key = (identity, unit, channels)
    if key not in _SHAPES:
        shown = partial(_maps_of_size, name, maps_of, channels)
        _SHAPES[key] = _shape(name, build, shown, unit)
    return _SHAPES[key]


class _OtherSize(RecipeError):
    """A network does not take images of a size."""


def _shape(name: str, build: Build, shown: Shown, unit: int | None) -> Shape:
    """What `probe` finds."""
    try:
        return _probed(name, build, shown, PROBE, None)
    except _OtherSize:
        if unit is not None:
            with suppress(_OtherSize):
                return _probed(name, build, shown, unit, unit)
        raise


def _probed(name: str, build: Build, shown: Shown, side: int, multiple: int | None) -> Shape:
    """What a network gives for images of a side, twice it, and that and ``multiple`` more.

    Without a multiple it is the largest stride.
    """
    with torch.device("meta"):
        model = build().eval()
    maps = shown(model, (side, side))
    torch.stack([one.sum() for one in maps]).sum().backward()
    unused = [own for own, weight in model.named_parameters() if weight.grad is None]
    with torch.no_grad():
        wide = shown(model, (2 * side, side))
        # By how much a map grows: without the lines that a convolution without padding loses.
        growth = [wider.shape[3] - one.shape[3] for one, wider in zip(maps, wide, strict=True)]
        if 0 in growth:
            raise RecipeError(
                f"model.backbone: {name} brings images to one size inside; choose another network"
            )
        strides = [side // lines for lines in growth]
        multiple = multiple or max(strides)
        shown(model, (2 * side, side + multiple))
    for one, stride in zip(maps, strides, strict=True):
        if abs(one.shape[3] * stride - side) > stride:
            raise RecipeError(
                f"model.backbone: {name} leaves out the borders of images; choose a network whose"
                " convolutions pad"
            )
    channels = [one.shape[1] for one in maps]
    features = [FeatureInfo(*pair) for pair in zip(channels, strides, strict=True)]
    return Shape(features, multiple, _family(strides), unused)


def quarters(count: int) -> list[int]:
    """Numbers of the layers, from 1, that end the quarters of a network of so many."""
    return list(dict.fromkeys(math.ceil(count * quarter / 4) for quarter in range(1, 5)))


def check_layers(name: str, chosen: list[int], count: int) -> None:
    """Refuse layers that a network does not have.

    Raises:
        RecipeError: says how many there are.
    """
    if max(chosen) > count or sorted(set(chosen)) != chosen:
        raise RecipeError(
            f"model.backbone.layers: {name} has {count}; give their numbers in ascending order,"
            " each once"
        )


def one_line(error: Exception) -> str:
    """What an error of another package says, shortened."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def and_more(names: list[str]) -> str:
    """What follows the first of some names in a message."""
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _maps_of_size(
    name: str, maps_of: Maps, channels: int, model: nn.Module, size: Size
) -> Sequence[Tensor]:
    """The features of an image of a size, which a network may not take."""
    width, height = size
    try:
        return maps_of(model, torch.zeros(1, channels, height, width, device="meta"))
    except Exception as error:  # networks raise errors of many kinds
        raise _OtherSize(
            f"model.backbone: {name} does not take images of any size ({one_line(error)}); choose"
            " a network that does"
        ) from None


def _family(strides: list[int]) -> Family:
    if len(set(strides)) == 1:
        return "plain"
    return "dilated" if strides[-1] == strides[-2] else "pyramid"


def _deeplab_dilations(stride: int) -> tuple[int, ...]:
    """DeepLab-v2's at stride 8, and as many pixels of the image at any other stride."""
    return tuple(max(1, dilation * 8 // stride) for dilation in (6, 12, 18, 24))


def _three(values: Any) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
