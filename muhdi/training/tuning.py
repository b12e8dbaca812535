"""What of a network a stage trains, see `model.tune`."""

from __future__ import annotations

from muhdi.models.adapters import Adapters
from muhdi.models.norms import convert_norms
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.tune import TuneConfig
from muhdi.training.optim import freeze_affine


def tune(network: Segmenter, config: TuneConfig) -> Adapters | None:
    """Let training change what a recipe wants changed of the backbone.

    Args:
        network: changed in place.
        config: says what.

    Returns:
        The adapters, which are to be merged when the stage ends; None without any.
    """
    freeze_affine(network)
    if config.method == "lora":
        return Adapters(network.backbone, config)
    if config.method == "frozen":
        freeze_backbone(network)
    return None


def freeze_backbone(network: Segmenter) -> None:
    """Keep the whole backbone as it is: passes through it are as in evaluation, without a graph."""
    backbone = network.backbone
    backbone.requires_grad_(False)
    # A frozen kind of norm, which copies of the network (teachers) keep, too.
    convert_norms(backbone, "frozen")
    backbone.frozen = True
    backbone.eval()
