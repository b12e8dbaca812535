"""LoRA: low-rank changes of a backbone's linear layers, through the package peft.

Hu et al. 2021: a layer of weight W computes W x + (alpha / rank) B A x, where A and B are trained
and W stays. B starts at 0, so that a network with new adapters computes what it did without.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from muhdi.errors import RecipeError
from muhdi.models.backbones.base import Backbone
from muhdi.models.meta import without_values
from muhdi.recipe.tune import TuneConfig

_AROUND = "backbone"
"""Name of the backbone in a module around it: peft would read a backbone's own ``config``."""


def adaptable_layers(backbone: Backbone) -> list[str]:
    """Names of the layers that adapters change.

    Raises:
        RecipeError: there are none, or peft is missing; says what to do.
    """
    layers = _linear_layers(backbone)
    if not layers:
        raise RecipeError(
            f"model.tune: lora changes linear layers, but {type(backbone).__name__} has none; use"
            " frozen or full"
        )
    if find_spec("peft") is None:
        raise RecipeError("model.tune: lora needs the package peft; pip install 'muhdi[lora]'")
    return layers


def _linear_layers(backbone: Backbone) -> list[str]:
    """Names of the linear layers that take part.

    Those of a class of their own are left out: what PyTorch's attention calls its last projection
    is read by it, and not called. So are those whose weights a network reads itself, as some do
    with one layer for queries, keys and values: an adapter there would never be asked.
    """
    called = _called_modules(backbone)
    return [
        name
        for name, module in backbone.named_modules()
        if type(module) is nn.Linear and module.weight.requires_grad and name in called
    ]


def _called_modules(backbone: Backbone) -> set[str]:
    """Names of the modules that a pass calls, found without computing anything."""
    called: set[str] = set()
    trial = without_values(backbone).eval()
    for name, module in trial.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    side = 8 * backbone.multiple
    with torch.no_grad():
        trial(torch.zeros(1, backbone.image_channels, side, side, device="meta"))
    return called


class Adapters:
    """Adapters in every linear layer of a backbone, which alone are trained.

    Args:
        backbone: changed in place; its random numbers are PyTorch's own.
        config: says of which rank.

    Raises:
        RecipeError: see `adaptable_layers`.
    """

    def __init__(self, backbone: Backbone, config: TuneConfig) -> None:
        layers = adaptable_layers(backbone)
        import peft

        self.backbone = backbone
        self._resting = [one for one in backbone.parameters() if one.requires_grad]
        lora = peft.LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules=[f"{_AROUND}.{name}" for name in layers],
        )
        peft.inject_adapter_in_model(lora, nn.ModuleDict({_AROUND: backbone}))

    def merge(self) -> None:
        """Add the changes to the weights: the backbone is a plain one again, and all of it trained.

        What was frozen before the adapters came stays so.
        """
        merge_adapters(self.backbone)
        for parameter in self._resting:
            parameter.requires_grad_(True)


def merge_adapters(backbone: nn.Module) -> None:
    """Replace every layer with an adapter by its plain layer, to which the change is added."""
    from peft.tuners.lora import LoraLayer

    found: dict[str, Any] = {
        name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)
    }
    for name, layer in found.items():
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, layer.get_base_layer())
