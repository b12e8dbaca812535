"""Methods: how a new domain is learnt (adaptation), and how the old ones are kept (retention)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from muhdi.errors import MuhdiError
from muhdi.recipe.section import Fraction, Part, Rate, Weight, named


class NoAdaptationConfig(Part):
    """The control: target images pass through the network, so that its normalisation sees them."""

    method: Literal["none"] = "none"


class MinEntConfig(Part):
    """Entropy minimisation; weights of the two levels."""

    method: Literal["minent"] = "minent"
    weight_main: Weight = 0.001
    weight_aux: Weight = 0.0002


class AdventConfig(Part):
    """Adversarial entropy.

    ``aux_sees_source``: the aux discriminator trains on the source too (the reference's AdvEnt does
    not). ``width``: channels of the discriminators' first layer; at 64 each has 2.8 million
    parameters. ``discriminators``: ``fresh`` ones in every step, or the ``previous`` step's where
    it was advent too. ``init_main`` and ``init_aux``: files to start them from (the reference's, or
    ours).
    """

    method: Literal["advent"] = "advent"
    weight_main: Weight = 0.001
    weight_aux: Weight = 0.0002
    learning_rate: Rate = 1e-4
    width: Annotated[int, Field(gt=0, le=4096)] = 64
    aux_sees_source: bool = True
    discriminators: Literal["fresh", "previous"] = "fresh"
    init_main: str | None = None
    init_aux: str | None = None

    @model_validator(mode="after")
    def _one_start(self) -> AdventConfig:
        if self.discriminators == "previous" and (self.init_main or self.init_aux):
            raise MuhdiError(
                "adaptation: discriminators: previous and init_main or init_aux exclude each other"
            )
        return self


class SelfTrainConfig(Part):
    """Mean teacher and class mixing.

    ``threshold_per``: one threshold for every pixel, or per predicted class the
    smaller of it and the class's median confidence."""

    method: Literal["selftrain"] = "selftrain"
    weight_main: Weight = 1.0
    weight_aux: Weight = 0.1
    threshold: Fraction = 0.9
    threshold_per: Literal["pixel", "class"] = "pixel"
    momentum: Fraction = 0.99
    colour_jitter: Fraction = 0.3


class OracleConfig(Part):
    """The upper bound: trains on the target's labels, which no other method ever opens."""

    method: Literal["oracle"] = "oracle"
    weight_main: Weight = 1.0
    weight_aux: Weight = 0.1


class NoRetentionConfig(Part):
    """Plain sequential fine-tuning."""

    method: Literal["none"] = "none"


class DistillConfig(Part):
    """Distillation from the frozen old model.

    ``aux``: the aux level's weight relative to the main one's. ``kl_reduction``: average over
    pixels, or over pixels and classes as the reference does. ``old_statistics``: what the old model
    normalises with.
    """

    method: Literal["distill"] = "distill"
    weight_source: Weight = 1.0
    weight_pod: Weight = 1e-3
    aux: Weight = 0.1
    kl_reduction: Literal["pixel", "element"] = "pixel"
    old_statistics: Literal["batch", "running"] = "batch"


class MuHDiConfig(DistillConfig):
    """Multi-head distillation.

    ``weight_target`` and ``target_loss`` are for specialist -> agnostic on the target;
    ``aux_target`` is its aux level's relative weight (none: ``aux``). ``heads``: how they start.
    ``copy``: the agnostic head stays, the specialist is its copy. ``reference``: where the old
    network has a specialist, the agnostic head becomes its copy and the specialist stays; else the
    specialist is random.
    """

    method: Literal["muhdi"] = "muhdi"  # type: ignore[assignment]
    weight_target: Weight = 1.0
    aux_target: Weight | None = None
    target_loss: Literal["kl", "mse"] = "kl"
    heads: Literal["copy", "reference"] = "copy"


AdaptationConfig = NoAdaptationConfig | MinEntConfig | AdventConfig | SelfTrainConfig | OracleConfig
RetentionConfig = NoRetentionConfig | DistillConfig | MuHDiConfig
AdaptationField = Annotated[AdaptationConfig, Field(discriminator="method"), BeforeValidator(named)]
RetentionField = Annotated[RetentionConfig, Field(discriminator="method"), BeforeValidator(named)]
