"""muhdi: continual unsupervised domain adaptation for semantic segmentation.

Public names are imported when they are first used, so that ``import muhdi`` is quick.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muhdi.adaptation.base import Adaptation
    from muhdi.data.catalog import DataContext
    from muhdi.data.sets import ImageSet, Sample
    from muhdi.deploy.export import export
    from muhdi.deploy.prediction import Prediction
    from muhdi.deploy.predictor import Predictor
    from muhdi.deploy.view import View
    from muhdi.errors import DataError, Interrupted, MuhdiError, RecipeError, RunError
    from muhdi.evaluation.results import Results
    from muhdi.losses import Losses
    from muhdi.method import Batches, Memory, MethodContext, OwnNetwork
    from muhdi.models.backbones.base import Backbone, FeatureInfo, Normalise
    from muhdi.models.checkpoint import Checkpoint, load_checkpoint
    from muhdi.models.outputs import Levels, Outputs
    from muhdi.models.segmenter import Segmenter
    from muhdi.online.base import Online, OnlineContext
    from muhdi.online.learner import Learner
    from muhdi.passes import Batch, Pass
    from muhdi.recipe.backbones import BackboneConfig
    from muhdi.recipe.domains import DomainConfig
    from muhdi.recipe.load import shipped_recipes
    from muhdi.recipe.methods import AdaptationConfig
    from muhdi.recipe.online import LearnerConfig, OnlineConfig
    from muhdi.recipe.retentions import RetentionConfig
    from muhdi.recipe.schema import Recipe
    from muhdi.recipe.section import Fraction, Positive, Weight
    from muhdi.retention.base import Retention
    from muhdi.run.costs import DryRun
    from muhdi.taxonomy import ClassSet
    from muhdi.workflows.adapt import adapt
    from muhdi.workflows.adapt_online import adapt_online
    from muhdi.workflows.dry_run import dry_run
    from muhdi.workflows.evaluate import evaluate
    from muhdi.workflows.label_sample import LabelSample, label_sample
    from muhdi.workflows.sweep import sweep
    from muhdi.workflows.train import train

_HOME = {
    "Adaptation": "muhdi.adaptation.base",
    "AdaptationConfig": "muhdi.recipe.methods",
    "Backbone": "muhdi.models.backbones.base",
    "BackboneConfig": "muhdi.recipe.backbones",
    "Batch": "muhdi.passes",
    "Batches": "muhdi.method",
    "Checkpoint": "muhdi.models.checkpoint",
    "ClassSet": "muhdi.taxonomy",
    "DataContext": "muhdi.data.catalog",
    "DataError": "muhdi.errors",
    "DomainConfig": "muhdi.recipe.domains",
    "DryRun": "muhdi.run.costs",
    "FeatureInfo": "muhdi.models.backbones.base",
    "Fraction": "muhdi.recipe.section",
    "ImageSet": "muhdi.data.sets",
    "Interrupted": "muhdi.errors",
    "Learner": "muhdi.online.learner",
    "LearnerConfig": "muhdi.recipe.online",
    "Levels": "muhdi.models.outputs",
    "LabelSample": "muhdi.workflows.label_sample",
    "Losses": "muhdi.losses",
    "Memory": "muhdi.method",
    "MethodContext": "muhdi.method",
    "MuhdiError": "muhdi.errors",
    "Normalise": "muhdi.models.backbones.base",
    "Online": "muhdi.online.base",
    "OnlineConfig": "muhdi.recipe.online",
    "OnlineContext": "muhdi.online.base",
    "Outputs": "muhdi.models.outputs",
    "OwnNetwork": "muhdi.method",
    "Pass": "muhdi.passes",
    "Positive": "muhdi.recipe.section",
    "Prediction": "muhdi.deploy.prediction",
    "Predictor": "muhdi.deploy.predictor",
    "Recipe": "muhdi.recipe.schema",
    "RecipeError": "muhdi.errors",
    "Results": "muhdi.evaluation.results",
    "Retention": "muhdi.retention.base",
    "RetentionConfig": "muhdi.recipe.retentions",
    "RunError": "muhdi.errors",
    "Sample": "muhdi.data.sets",
    "Segmenter": "muhdi.models.segmenter",
    "View": "muhdi.deploy.view",
    "Weight": "muhdi.recipe.section",
    "adapt": "muhdi.workflows.adapt",
    "adapt_online": "muhdi.workflows.adapt_online",
    "dry_run": "muhdi.workflows.dry_run",
    "evaluate": "muhdi.workflows.evaluate",
    "export": "muhdi.deploy.export",
    "label_sample": "muhdi.workflows.label_sample",
    "load_checkpoint": "muhdi.models.checkpoint",
    "shipped_recipes": "muhdi.recipe.load",
    "sweep": "muhdi.workflows.sweep",
    "train": "muhdi.workflows.train",
}
"""Where each public name is defined."""

_EARLIER = {
    "evaluate_network": ("muhdi.workflows.evaluate", "evaluate_network", "muhdi.evaluate"),
    "load": ("muhdi.deploy.predictor", "load", "muhdi.Predictor.load"),
    "load_recipe": ("muhdi.recipe.load", "load_recipe", "muhdi.Recipe.load"),
    "run_sequence": ("muhdi.workflows.train", "train", "muhdi.train"),
}
"""Names of version 0.1, where they are defined, and their names now."""

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _EARLIER:
        module, attribute, new = _EARLIER[name]
        warnings.warn(f"muhdi.{name} is now called {new}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(module), attribute)
    if name not in _HOME:
        raise AttributeError(f"module 'muhdi' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    # Imported here: it takes longer than all the rest of ``import muhdi``.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("muhdi")
    except PackageNotFoundError:
        return "unknown"
