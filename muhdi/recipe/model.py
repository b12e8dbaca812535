"""The network: backbone, decoder, what it starts from and what training changes of it."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from muhdi.errors import RecipeError
from muhdi.recipe.backbones import BackboneField, DecoderConfig, SmallConfig
from muhdi.recipe.section import Section
from muhdi.recipe.tune import TuneConfig

NormKind = Literal["batch", "synced", "frozen"]
"""Whose statistics batch norms use while training, see `ModelConfig`."""


class ModelConfig(Section):
    """The network."""

    backbone: BackboneField = SmallConfig()
    """What turns images into features."""
    init: str | None = None
    """File to start from: a network of ours, the reference's, or a state dict of the backbone, of
    torchvision or timm for example; as it is given, or below `runtime.root`. `imagenet`: the
    weights of an installed package, or of a ResNet torchvision's, which are fetched once. None:
    random."""
    decoder: DecoderConfig | None = None
    """What the heads share, by name or with its options; none: what suits the backbone."""
    tune: TuneConfig = TuneConfig()
    """What training changes of the backbone: `full`, `frozen` or `lora`, or with its options."""
    checkpointing: bool = False
    """Compute the backbone's blocks again in the backward pass instead of keeping what is inside
    them: less memory, for the time of one more forward pass."""
    multi_level: bool = True
    """Whether heads have an aux level after stage 3 of the backbone, besides the main one."""
    batch_norm: NormKind = "batch"
    """While training, batch norms use the statistics of the `batch` that a device sees, of the
    whole batch over all devices (`synced`), or their running ones, which then stay (`frozen`)."""

    @model_validator(mode="after")
    def _checkpointing_saves(self) -> ModelConfig:
        if self.checkpointing and self.tune.method == "frozen":
            raise RecipeError(
                "model.checkpointing: of a frozen backbone nothing is kept for a backward pass;"
                " leave it out"
            )
        return self
