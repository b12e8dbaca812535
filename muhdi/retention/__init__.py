"""Retentions: how the network keeps the old domains.

`build_retention` makes one from its recipe part.
"""

from __future__ import annotations

from muhdi.models.segmenter import Segmenter
from muhdi.recipe.methods import DistillConfig, MuHDiConfig, RetentionConfig
from muhdi.retention.base import Retention
from muhdi.retention.distill import Distill
from muhdi.retention.muhdi import MuHDi

__all__ = ["Retention", "build_retention"]


def build_retention(config: RetentionConfig, old: Segmenter) -> Retention:
    """The retention that ``config`` describes, for a step that starts from the network ``old``."""
    match config:
        case MuHDiConfig():
            return MuHDi(config, old)
        case DistillConfig():
            return Distill(config, old)
        case _:
            return Retention()
