"""Stages of a run: training on the source, and the steps that follow."""

from __future__ import annotations

from muhdi.recipe.domains import DomainField
from muhdi.recipe.methods import NO_ADAPTATION, NO_RETENTION, AdaptationField, RetentionField
from muhdi.recipe.rare_classes import RareClassesConfig
from muhdi.recipe.section import NotNegative, Positive, Rate, Section, Weight


class StageConfig(Section):
    """What training on the source and every step have in common."""

    iterations: NotNegative = 0
    """Number of updates."""
    schedule: Positive | None = None
    """Iterations after which the learning rate would be 0; none: `iterations`."""
    batch_size: Positive = 1
    """Images per domain and update, whatever the number of devices: they share the batch."""
    accumulate: Positive = 1
    """Parts in which a device computes its share of the batch, one after another, to save memory.
    Batch norms, unless frozen, then see the statistics of a part."""
    learning_rate: Rate = 2.5e-4
    """Of the backbone, at the start."""
    weight_main: Weight = 1.0
    """Factor of the main level's cross entropy on the source."""
    weight_aux: Weight = 0.1
    """Factor of the aux level's cross entropy on the source."""
    rare_classes: RareClassesConfig | None = None
    """Draws source images for a class, rare ones more often, `{}` as published; none: each is drawn
    once per epoch."""


class StepConfig(StageConfig):
    """One step: a new target domain, how it is learned, and how the old ones are kept."""

    target: DomainField
    """The new domain."""
    iterations: Positive
    """Number of updates."""
    adaptation: AdaptationField = NO_ADAPTATION
    """How the target is learned."""
    retention: RetentionField = NO_RETENTION
    """How the earlier domains are kept."""
    target_batch_size: Positive | None = None
    """Target images per update; none: `batch_size`."""
