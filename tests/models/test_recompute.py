"""Activation checkpointing: the same gradients and statistics, from less memory."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from muhdi.data.domains import Domains
from muhdi.errors import RecipeError
from muhdi.models.backbones.base import Backbone
from muhdi.models.backbones.resnet import DilatedResNet
from muhdi.models.norms import convert_norms
from muhdi.recipe.backbones import ResNetConfig, read_backbone
from muhdi.recipe.load import load_recipe
from muhdi.training.start import start
from tests.models.tiny_transformers import folder_of

Tiny = Callable[..., Path]
IMAGES = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
DROPPING = {
    "segformer": {"drop_path_rate": 0.5, "hidden_dropout_prob": 0.2},
    "swin": {"drop_path_rate": 0.5},
    "dinov2": {"drop_path_rate": 0.5},
    "hiera": {"drop_path_rate": 0.5},
}
"""Options with which networks of transformers draw random numbers."""


def backbone_of(name: str, folder: Path) -> Backbone:
    """A backbone whose blocks also draw random numbers."""
    torch.manual_seed(1)
    if name in DROPPING:
        section = {"name": f"hf:{folder_of(name, folder)}", "options": DROPPING[name]}
        return read_backbone(section).build()
    if name == "resnet":
        backbone: Backbone = DilatedResNet(ResNetConfig(name="resnet50"), (2, 1, 1, 1))
    else:
        backbone = read_backbone(name).build()
    last = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)][-1]
    last.register_forward_hook(lambda module, given, out: nn.functional.dropout(out, 0.3))
    return backbone


def one_pass(backbone: Backbone) -> tuple[int, dict[str, Tensor], dict[str, Tensor]]:
    """Bytes that are kept for the backward pass, gradients, and buffers afterwards."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = backbone(IMAGES)
        forward = sum(kept.values())
        torch.stack([feature.square().mean() for feature in features]).sum().backward()
    gradients = {
        name: weight.grad for name, weight in backbone.named_parameters() if weight.grad is not None
    }
    return forward, gradients, dict(backbone.named_buffers())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("small", "batch"),
        ("small", "frozen"),
        ("resnet", "batch"),
        ("efficientnet_lite0", "synced"),
        *((name, "batch") for name in DROPPING),
    ],
)
def test_the_same_gradients_and_statistics(name: str, kind: str, tmp_path: Path) -> None:
    plain = backbone_of(name, tmp_path).train()
    convert_norms(plain, kind)
    saving = deepcopy(plain)
    saving.checkpointed()
    much, gradients, buffers = one_pass(plain)
    less, same, again = one_pass(saving)
    assert less < 0.7 * much
    assert gradients.keys() == same.keys()
    for key, gradient in gradients.items():
        assert torch.allclose(gradient, same[key], rtol=1e-6, atol=1e-6), key
    # A batch norm that was computed twice has seen one batch.
    assert all(torch.equal(value, again[key]) for key, value in buffers.items())
    counts = [value for key, value in again.items() if key.endswith("num_batches_tracked")]
    assert all(int(count) == (kind != "frozen") for count in counts)


def test_without_gradients_nothing_is_computed_twice() -> None:
    backbone = read_backbone("small").build().train()
    backbone.checkpointed()
    calls: list[nn.Module] = []
    backbone.layer1.register_forward_pre_hook(lambda module, given: calls.append(module))
    with torch.no_grad():
        backbone(IMAGES)
    assert len(calls) == 1
    backbone(IMAGES)[-1].sum().backward()
    assert len(calls) == 3


def test_the_recipe_says_so(tiny: Tiny, tmp_path: Path) -> None:
    recipe = load_recipe(tiny(steps=[]), ["model.checkpointing=true"])
    network = start(recipe, Domains(recipe)).carried.network
    assert network.backbone.checkpointing
    with pytest.raises(RecipeError, match="of a frozen backbone nothing is kept"):
        load_recipe(tiny(), ["model.checkpointing=true", "model.tune=frozen"])
    folder = folder_of("convnext", tmp_path)
    settings = [f"model.backbone={{name: 'hf:{folder}', pretrained: false}}"]
    recipe = load_recipe(tiny(steps=[]), [*settings, "model.checkpointing=true"])
    with pytest.raises(RecipeError, match=r"model\.checkpointing: ConvNextBackbone cannot"):
        start(recipe, Domains(recipe))
