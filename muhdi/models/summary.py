"""What a network is made of and what it costs: parameters, features, operations."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from muhdi.models.meta import without_values
from muhdi.models.outputs import AGNOSTIC
from muhdi.models.segmenter import Segmenter
from muhdi.models.statistics import batch_norms


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        name: ``backbone``, ``decoder``, or the head's.
        parameters: numbers in its weights.
        trained: those of them that training changes.
    """

    name: str
    parameters: int
    trained: int

    @property
    def frozen(self) -> int:
        """Numbers that stay as they are."""
        return self.parameters - self.trained


@dataclass(frozen=True)
class FeatureMap:
    """A map that the heads or the decoder can stand on.

    Attributes:
        name: of the map.
        channels: K.
        stride: pixels of the image that one of its pixels spans.
        width: at the size that was asked for.
        height: the same.
    """

    name: str
    channels: int
    stride: float
    width: int
    height: int


@dataclass(frozen=True)
class NetworkSummary:
    """What a network is made of.

    Attributes:
        parts: backbone, decoder where there is one, and heads.
        features: from fine to coarse, and what the decoder gives.
        multiple: sides of images are padded to a multiple of this.
        batch_norms: how many there are.
        weight_bytes: of all parameters and buffers that are saved.
        size: width and height of the image that features and operations are of.
        flops: floating point operations of predicting that one image with the agnostic head, in
            convolutions and matrix products; a multiply-add counts as two.
    """

    parts: tuple[Part, ...]
    features: tuple[FeatureMap, ...]
    multiple: int
    batch_norms: int
    weight_bytes: int
    size: tuple[int, int]
    flops: int

    @property
    def total(self) -> Part:
        """All parts together."""
        parameters = sum(part.parameters for part in self.parts)
        trained = sum(part.trained for part in self.parts)
        return Part("total", parameters, trained)


def summarise(network: Segmenter, size: tuple[int, int]) -> NetworkSummary:
    """What a network is made of, and what it costs at a size.

    Args:
        network: left as it was; what training changes is what requires gradients.
        size: width and height of an image.
    """
    maps, flops = _traced(network, size)
    saved = network.state_dict().values()
    return NetworkSummary(
        parts_of(network),
        tuple(_features(network, maps)),
        network.backbone.multiple,
        len(batch_norms(network)),
        sum(tensor.numel() * tensor.element_size() for tensor in saved),
        size,
        flops,
    )


def parts_of(network: Segmenter) -> tuple[Part, ...]:
    """Backbone, decoder where it has parameters, and heads."""
    parts = [_part("backbone", network.backbone)]
    if any(True for _ in network.decoder.parameters()):
        parts.append(_part("decoder", network.decoder))
    parts += [_part(f"head {name}", head) for name, head in network.heads.items()]
    return tuple(parts)


def _part(name: str, module: nn.Module) -> Part:
    parameters = list(module.parameters())
    trained = [parameter.numel() for parameter in parameters if parameter.requires_grad]
    return Part(name, sum(parameter.numel() for parameter in parameters), sum(trained))


def _features(network: Segmenter, maps: tuple[Tensor, ...]) -> list[FeatureMap]:
    """Names and strides of the maps that a pass gave."""
    infos = network.backbone.features
    features = []
    for number, (info, found) in enumerate(zip(infos, maps, strict=False), start=1):
        _, channels, height, width = found.shape
        features.append(FeatureMap(str(number), channels, info.stride, width, height))
    if len(maps) > len(infos):
        _, channels, height, width = maps[-1].shape
        last = features[-1]
        stride = last.stride * last.width / width
        features.append(FeatureMap("decoder", channels, stride, width, height))
    return features


def _traced(network: Segmenter, size: tuple[int, int]) -> tuple[tuple[Tensor, ...], int]:
    """The maps of one image, and the operations of predicting it."""
    try:
        # Without values: whatever the size, it takes neither time nor memory.
        return _passed(without_values(network), size)
    except RuntimeError:
        # A backbone of another package may look at values. If the size is wrong, it fails again.
        return _passed(deepcopy(network), size)


@torch.no_grad()
def _passed(network: Segmenter, size: tuple[int, int]) -> tuple[tuple[Tensor, ...], int]:
    network.eval()
    width, height = size
    device = next(network.parameters()).device
    shape = (1, network.channels, height, width)
    image = torch.zeros(shape, dtype=torch.uint8, device=device)
    maps = network(image).features
    with FlopCounterMode(display=False) as counter:
        network.segment(image, AGNOSTIC)
    return maps, counter.get_total_flops()
