"""Tiny configurations of the networks that transformers builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muhdi.recipe.backbones import TransformersConfig

transformers = pytest.importorskip("transformers")

_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_WINDOWS: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
}
_PLAIN: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
_ATTENTION: dict[str, Any] = {**_STAGES, "num_attention_heads": [1, 1, 2, 2]}

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "segformer": ("SegformerConfig", _ATTENTION),
    "convnext": ("ConvNextConfig", _STAGES),
    "convnextv2": ("ConvNextV2Config", _STAGES),
    "swin": ("SwinConfig", _WINDOWS),
    "swinv2": ("Swinv2Config", _WINDOWS),
    "dinov2": ("Dinov2Config", {**_PLAIN, "patch_size": 14, "image_size": 56}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersConfig",
        {**_PLAIN, "patch_size": 14, "image_size": 56},
    ),
    "dinov3_vit": ("DINOv3ViTConfig", {**_PLAIN, "patch_size": 16, "image_size": 64}),
    "dinov3_convnext": ("DINOv3ConvNextConfig", _STAGES),
    "pvt_v2": ("PvtV2Config", _ATTENTION),
    "resnet": ("ResNetConfig", {**_STAGES, "embedding_size": 8}),
    "bit": ("BitConfig", {**_STAGES, "embedding_size": 8, "num_groups": 4}),
    "focalnet": ("FocalNetConfig", {**_STAGES, "embed_dim": 8}),
    "hiera": (
        "HieraConfig",
        {
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "image_size": [64, 64],
        },
    ),
    "beit": (
        "BeitConfig",
        {**_PLAIN, "patch_size": 16, "image_size": 64, "use_relative_position_bias": True},
    ),
}
"""Type of model -> class of its configuration, and its arguments."""


def configuration(kind: str, **changes: Any) -> Any:
    """A configuration whose network has a few thousand weights."""
    name, options = CONFIGURATIONS[kind]
    return getattr(transformers, name)(**options | changes)


def folder_of(kind: str, folder: Path, **changes: Any) -> Path:
    """A folder that holds a configuration alone, without weights."""
    path = folder / kind
    configuration(kind, **changes).save_pretrained(path)
    return path


def section(kind: str, **changes: Any) -> TransformersConfig:
    """A section that holds the whole configuration, as a network's file does."""
    stages = [f"stage{number}" for number in range(1, 5)]
    kept = configuration(kind, out_features=stages, **changes).to_dict()
    half = (0.5, 0.5, 0.5)
    return TransformersConfig(name=f"hf:{kind}", configuration=kept, mean=half, std=half)
