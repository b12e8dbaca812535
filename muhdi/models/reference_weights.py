"""Network files of other projects: their names for what a `Segmenter` calls otherwise.

Known layouts: the reference's networks (``layer5`` to ``layer8`` are heads) and discriminators, its
ImageNet file (all names begin with one common part), and ResNet state dicts with torchvision's or
timm's names.
"""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi.models.outputs import AGNOSTIC, SPECIALIST

Tensors = dict[str, Tensor]

_HEADS = {
    "layer5": (AGNOSTIC, "aux"),
    "layer7": (SPECIALIST, "aux"),
    "layer6": (AGNOSTIC, "main"),
    "layer8": (SPECIALIST, "main"),
}
"""The reference's names of heads and levels, in the order in which its files hold them."""

_PARTS = {"conv1", "bn1", "fc", *(f"layer{number}" for number in range(1, 9))}
"""How names of a ResNet may begin; what stands before, in all of a file's names, is a wrapper's."""

_WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts put the weights in a file that holds more."""


def unwrapped(data: object) -> object:
    """The weights inside a file that holds more than them; anything else as it is."""
    for key in _WRAPPERS:
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            return data[key]
    return data


def from_foreign(tensors: Tensors) -> Tensors:
    """A foreign state dict -> the names of a `Segmenter`.

    Heads only where the file has heads of segmentation.
    """
    caffe = False
    prefix = _common_prefix(tensors)
    while prefix is not None:
        caffe = caffe or prefix == "Scale"  # the reference's ImageNet file
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
        prefix = _common_prefix(tensors)
    parts = _first_parts(tensors)
    if "layer5" in parts and "layer6" not in parts:  # that file's classifier, of another data set
        caffe = True
        tensors = {key: value for key, value in tensors.items() if not key.startswith("layer5.")}
    torchvision = not caffe and not parts & set(_HEADS)
    state = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if first in _HEADS:
            head, level = _HEADS[first]
            state[f"heads.{head}.{level}.{rest.replace('conv2d_list', 'convs')}"] = value
        elif first != "fc":
            state[f"backbone.{key}"] = value
        if key.endswith(".running_mean"):  # old files lack the counter
            counter = key.replace("running_mean", "num_batches_tracked")
            state.setdefault(
                f"backbone.{counter}", tensors.get(counter, torch.zeros((), dtype=torch.int64))
            )
    if torchvision and "backbone.conv1.weight" in state:
        state["backbone.conv1.weight"] = _for_bgr(state["backbone.conv1.weight"])
    return state


def _first_parts(tensors: Tensors) -> set[str]:
    """How the names begin, up to the first dot."""
    return {key.partition(".")[0] for key in tensors}


def _common_prefix(tensors: Tensors) -> str | None:
    """What a wrapper has put before all names; None if there is no wrapper."""
    parts = _first_parts(tensors)
    if len(parts) != 1:
        return None
    prefix = parts.pop()
    return None if prefix in _PARTS or prefix in tensors else prefix


def to_reference(state: Tensors) -> Tensors:
    """The state dict of a `Segmenter` on a ResNet -> the reference's names, in its order."""
    renamed = {
        key.removeprefix("backbone."): value
        for key, value in state.items()
        if key.startswith("backbone.")
    }
    for layer, (head, level) in _HEADS.items():
        prefix = f"heads.{head}.{level}.convs."
        for key, value in state.items():
            if key.startswith(prefix):
                renamed[f"{layer}.conv2d_list.{key.removeprefix(prefix)}"] = value
    return renamed


def backbone_of(state: Tensors) -> str | None:
    """The name of the dilated ResNet whose weights `from_foreign` gave.

    None if it is neither of the two.
    """
    blocks = {key.split(".")[2] for key in state if key.startswith("backbone.layer3.")}
    return {6: "resnet50", 23: "resnet101"}.get(len(blocks))


def _for_bgr(weight: Tensor) -> Tensor:
    """A first convolution for ImageNet's RGB -> the same for BGR of 0..255 minus a mean."""
    deviation = weight.new_tensor((58.395, 57.12, 57.375)).view(1, 3, 1, 1)
    return (weight / deviation).flip(1) if weight.shape[1:2] == (3,) else weight
