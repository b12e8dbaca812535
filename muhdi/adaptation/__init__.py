"""Adaptations: how the network learns the new target domain.

`build_adaptation` makes one from its recipe part.
"""

from __future__ import annotations

import torch

from muhdi.adaptation.advent import AdvEnt
from muhdi.adaptation.base import Adaptation, TargetBatch
from muhdi.adaptation.minent import MinEnt
from muhdi.adaptation.oracle import Oracle
from muhdi.adaptation.selftrain import SelfTrain
from muhdi.models.segmenter import Segmenter
from muhdi.recipe.methods import (
    AdaptationConfig,
    AdventConfig,
    MinEntConfig,
    OracleConfig,
    SelfTrainConfig,
)

__all__ = ["Adaptation", "TargetBatch", "build_adaptation"]


def build_adaptation(
    config: AdaptationConfig, model: Segmenter, learner: str, generator: torch.Generator
) -> Adaptation:
    """The adaptation that ``config`` describes, for a step from ``model`` that trains the head ``learner``."""
    match config:
        case MinEntConfig():
            return MinEnt(config)
        case AdventConfig():
            return AdvEnt(config, model.classes, model.levels)
        case SelfTrainConfig():
            return SelfTrain(config, model, learner, generator)
        case OracleConfig():
            return Oracle(config)
        case _:
            return Adaptation()
