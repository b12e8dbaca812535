"""Which parameters weight decay leaves alone."""

from __future__ import annotations

import torch
from torch import nn

from muhdi.models.undecayed import undecayed_parameters

TERMS = (
    "pos_embed",
    "embeddings.position_embeddings",
    "attention.relative_position_bias_table",
    "attention.cpb_mlp.0.weight",
    "attention.logit_scale",
    "embeddings.cls_token",
    "reg_token",
    "embeddings.register_tokens",
    "embeddings.mask_token",
    "layer_scale",
)
WEIGHTS = ("patch_embed.proj.weight", "attention.qkv.weight", "tokenizer.weight", "normalised")


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(4))


class ConvNextV2GRN(nn.Module):
    """As transformers has it: four dimensions, of which one counts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, 4))


def holding(names: tuple[str, ...]) -> nn.Module:
    """A module with parameters of two dimensions and these names."""
    root = nn.Module()
    for name in names:
        *path, last = name.split(".")
        part = root
        for word in path:
            if not hasattr(part, word):
                part.add_module(word, nn.Module())
            part = getattr(part, word)
        part.register_parameter(last, nn.Parameter(torch.zeros(2, 2)))
    return root


def test_positions_tokens_and_scales_by_their_names() -> None:
    assert undecayed_parameters(holding(TERMS + WEIGHTS)) == set(TERMS)


def test_norms_biases_and_scales_by_their_kind() -> None:
    parts = {
        "batch": nn.BatchNorm2d(4),
        "layer": nn.LayerNorm([4, 4]),
        "group": nn.GroupNorm(2, 4),
        "grn": ConvNextV2GRN(),
        "scale": LayerScale(),
        "conv": nn.Conv2d(4, 4, 3),
        "one": nn.Conv2d(4, 1, 1, bias=False),
    }
    found = undecayed_parameters(nn.ModuleDict(parts))
    norms = {
        f"{name}.{what}" for name in ("batch", "layer", "group") for what in ("weight", "bias")
    }
    assert found == norms | {"grn.weight", "scale.gamma", "conv.bias"}
