"""Recipes: what a run consists of. Every option, its type and its one default stand here.

A recipe is a YAML file; `muhdi.recipe` finds and merges the files, this package says what they may hold.
"""

from muhdi.config.data import (
    ACDCConfig,
    AugmentConfig,
    DataConfig,
    DomainConfig,
    FolderConfig,
    LoaderConfig,
    PublicConfig,
    ScenesConfig,
)
from muhdi.config.methods import (
    AdaptationConfig,
    AdventConfig,
    DistillConfig,
    MinEntConfig,
    MuHDiConfig,
    NoAdaptationConfig,
    NoRetentionConfig,
    OracleConfig,
    RetentionConfig,
    SelfTrainConfig,
)
from muhdi.config.run import (
    KINDS,
    Kind,
    ModelConfig,
    NormKind,
    OptimizerConfig,
    Recipe,
    Stage,
    StepConfig,
    TestedConfig,
)

__all__ = [
    "KINDS",
    "ACDCConfig",
    "AdaptationConfig",
    "AdventConfig",
    "AugmentConfig",
    "DataConfig",
    "DistillConfig",
    "DomainConfig",
    "FolderConfig",
    "Kind",
    "LoaderConfig",
    "MinEntConfig",
    "ModelConfig",
    "MuHDiConfig",
    "NoAdaptationConfig",
    "NoRetentionConfig",
    "NormKind",
    "OptimizerConfig",
    "OracleConfig",
    "PublicConfig",
    "Recipe",
    "RetentionConfig",
    "ScenesConfig",
    "SelfTrainConfig",
    "Stage",
    "StepConfig",
    "TestedConfig",
]
