"""muhdi: continual unsupervised domain adaptation for semantic segmentation.

The public names are loaded when they are first used, so that ``import muhdi`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muhdi.config import Recipe
    from muhdi.deploy.predictor import Predictor
    from muhdi.deploy.pretrained import load
    from muhdi.errors import MuhdiError
    from muhdi.evaluation.results import Results
    from muhdi.models.segmenter import Segmenter
    from muhdi.models.weights import Checkpoint, load_checkpoint
    from muhdi.recipe import load_recipe, shipped_recipes
    from muhdi.taxonomy import ClassSet
    from muhdi.training.score import evaluate_network
    from muhdi.training.sequence import run_sequence
    from muhdi.training.sweep import sweep

_HOME = {
    "Checkpoint": "muhdi.models.weights",
    "ClassSet": "muhdi.taxonomy",
    "MuhdiError": "muhdi.errors",
    "Predictor": "muhdi.deploy.predictor",
    "Recipe": "muhdi.config",
    "Results": "muhdi.evaluation.results",
    "Segmenter": "muhdi.models.segmenter",
    "evaluate_network": "muhdi.training.score",
    "load": "muhdi.deploy.pretrained",
    "load_checkpoint": "muhdi.models.weights",
    "load_recipe": "muhdi.recipe",
    "run_sequence": "muhdi.training.sequence",
    "shipped_recipes": "muhdi.recipe",
    "sweep": "muhdi.training.sweep",
}

__all__ = [
    "Checkpoint",
    "ClassSet",
    "MuhdiError",
    "Predictor",
    "Recipe",
    "Results",
    "Segmenter",
    "evaluate_network",
    "load",
    "load_checkpoint",
    "load_recipe",
    "run_sequence",
    "shipped_recipes",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'muhdi' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
