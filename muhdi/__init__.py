"""muhdi: continual unsupervised domain adaptation for semantic segmentation.

The public names are loaded when they are first used, so that ``import muhdi`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muhdi.deploy.hub import load
    from muhdi.deploy.predictor import Predictor
    from muhdi.errors import MuhdiError
    from muhdi.evaluation.results import Results
    from muhdi.models.checkpoint import Checkpoint, load_checkpoint
    from muhdi.models.segmenter import Segmenter
    from muhdi.recipe.load import load_recipe, shipped_recipes
    from muhdi.recipe.schema import Recipe
    from muhdi.taxonomy import ClassSet
    from muhdi.workflows.evaluate import evaluate_network
    from muhdi.workflows.sweep import sweep
    from muhdi.workflows.train import run_sequence

_HOME = {
    "Checkpoint": "muhdi.models.checkpoint",
    "ClassSet": "muhdi.taxonomy",
    "MuhdiError": "muhdi.errors",
    "Predictor": "muhdi.deploy.predictor",
    "Recipe": "muhdi.recipe.schema",
    "Results": "muhdi.evaluation.results",
    "Segmenter": "muhdi.models.segmenter",
    "evaluate_network": "muhdi.workflows.evaluate",
    "load": "muhdi.deploy.hub",
    "load_checkpoint": "muhdi.models.checkpoint",
    "load_recipe": "muhdi.recipe.load",
    "run_sequence": "muhdi.workflows.train",
    "shipped_recipes": "muhdi.recipe.load",
    "sweep": "muhdi.workflows.sweep",
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
