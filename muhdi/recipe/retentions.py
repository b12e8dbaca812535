"""Retentions: how the earlier domains are kept.

One section each: its options, what the rest of the program needs to know of it, and the class that
it builds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.methods import MethodConfig
from muhdi.recipe.section import Fraction, NotNegative, Opaque, Positive, Weight


class RetentionConfig(MethodConfig):
    """How the earlier domains are kept.

    Attributes:
        trains_specialist: whether the head that learns is not the one that answers.
        distils: whether an old model teaches on the images of every step.
        holds_weights: whether it works on the network's weights by name.
        settles: whether it changes the network once more when the step is over.
        keeps_statistics: whether it keeps running statistics alone; refused where none of them
            move.
        changes_pseudo_labels: whether it has a say in the adaptation's pseudo-labels.
        sums_targets: whether the losses on several targets are added; else they are averaged.
    """

    kind: ClassVar[str] = "retention"
    trains_specialist: ClassVar[bool] = False
    distils: ClassVar[bool] = False
    holds_weights: ClassVar[bool] = False
    settles: ClassVar[bool] = False
    keeps_statistics: ClassVar[bool] = False
    changes_pseudo_labels: ClassVar[bool] = False
    sums_targets: ClassVar[bool] = False
    needs_old_model: ClassVar[bool] = True

    @property
    def parts(self) -> Sequence[RetentionConfig]:
        """The retentions that it stands for: itself, or those of a list."""
        return (self,)


class NoRetentionConfig(RetentionConfig):
    """Plain sequential fine-tuning."""

    builds: ClassVar[str] = "muhdi.retention.none:NoRetention"
    needs_old_model: ClassVar[bool] = False

    method: Literal["none"] = "none"
    """The method's name."""


class DistillConfig(RetentionConfig):
    """Distillation from the frozen old model to the one head."""

    builds: ClassVar[str] = "muhdi.retention.distill:Distill"
    distils: ClassVar[bool] = True

    method: Literal["distill"] = "distill"
    """The method's name."""
    weight_source: Weight = 1.0
    """Factor of the distillation of logits, on source images; without these, on the target's."""
    weight_pod: Weight = 1e-3
    """Factor of the distance between the old and the new features (local POD)."""
    normalised_pod: bool = False
    """Whether the pooled features are scaled to length 1 first (PODNet): for networks with layer
    norms, whose features are of another scale. `weight_pod` then needs to be larger, 0.1 say."""
    aux: Weight = 0.1
    """The aux level's weight, relative to the main one's."""
    kl_reduction: Literal["pixel", "element"] = "pixel"
    """The KL divergence is averaged over `pixel`s, or over pixels and classes (`element`) as in the
    reference."""
    old_statistics: Literal["batch", "running"] = "batch"
    """What the old model normalises with: each batch's statistics, or its running ones."""


class MuHDiConfig(DistillConfig):
    """Multi-head distillation."""

    builds: ClassVar[str] = "muhdi.retention.muhdi:MuHDi"
    trains_specialist: ClassVar[bool] = True

    method: Literal["muhdi"] = "muhdi"  # type: ignore[assignment]
    """The method's name."""
    weight_target: Weight = 1.0
    """Factor of the distillation from the specialist to the agnostic head on the target."""
    aux_target: Weight | None = None
    """The aux level's relative weight on the target; none: `aux`."""
    target_loss: Literal["kl", "mse"] = "kl"
    """Distance on the target: KL divergence, or squared difference of probabilities."""
    heads: Literal["copy", "reference"] = "copy"
    """How the heads start a step. `copy`: the agnostic head stays, the specialist is its copy.
    `reference`: where the old network has a specialist, it stays and the agnostic head becomes its
    copy; else the specialist is random."""


class MTKTConfig(RetentionConfig):
    """Multi-target knowledge transfer: a specialist for each of several targets."""

    builds: ClassVar[str] = "muhdi.retention.mtkt:MTKT"
    trains_specialist: ClassVar[bool] = True
    needs_old_model: ClassVar[bool] = False
    needs_source: ClassVar[bool] = True
    sums_targets: ClassVar[bool] = True

    method: Literal["mtkt"] = "mtkt"
    """The method's name."""
    weight_target: Weight = 1.0
    """Factor of the distillation from each specialist to the agnostic head, on its target."""
    aux: Weight = 0.1
    """The aux level's weight, relative to the main one's."""
    target_loss: Literal["kl", "mse"] = "kl"
    """Distance on the targets: KL divergence, or squared difference of probabilities."""
    kl_reduction: Literal["pixel", "element"] = "pixel"
    """The KL divergence is averaged over `pixel`s, or over pixels and classes (`element`) as in the
    published code."""
    teacher_iterations: NotNegative = 0
    """Iterations in which the specialists learn alone, before they teach."""
    heads: Literal["copy", "fresh"] = "copy"
    """Each specialist starts as a `copy` of the agnostic head, or at random (`fresh`) as in the
    published code."""
    mean_aux: bool = False
    """Whether the aux level's distillation is averaged over the targets, as in the published code,
    although the main level's is summed."""

    @model_validator(mode="after")
    def _options_are_used(self) -> MTKTConfig:
        if self.target_loss == "mse" and self.kl_reduction != "pixel":
            raise ValueError(
                "kl_reduction: there is no KL divergence with target_loss: mse; leave it out"
            )
        return self

    def check_step(self, key: str, targets: int, iterations: int) -> None:
        if targets == 1:
            raise RecipeError(
                f"{key}: {self.key} has a specialist for each of several targets, but the step has"
                " one; name several in targets, or choose another retention"
            )
        if self.teacher_iterations >= iterations:
            raise RecipeError(
                f"{key}.teacher_iterations: after {self.teacher_iterations} of {iterations}"
                " iterations nothing is left in which the specialists could teach the head that"
                " answers; set a smaller number"
            )

    def for_one_target(self) -> None:
        return None


class L2SPConfig(RetentionConfig):
    """A penalty on the distance from the weights at the start of the step."""

    builds: ClassVar[str] = "muhdi.retention.ewc:L2SP"
    holds_weights: ClassVar[bool] = True

    method: Literal["l2sp"] = "l2sp"
    """The method's name."""
    weight: Weight = 0.01
    """Factor of half the squared distance."""


class ImportanceConfig(RetentionConfig):
    """A penalty on the distance that counts where a weight was important."""

    holds_weights: ClassVar[bool] = True

    weight: Weight = 100.0
    """Factor of half the squared distance, weighted by importance."""
    decay: Fraction = 1.0
    """Factor of earlier importance at the end of each step: 1 sums over the steps."""
    samples: Positive = 64
    """Images from which importance is measured."""


class EWCConfig(ImportanceConfig):
    """Elastic weight consolidation: importance is the Fisher information on the source."""

    decay: Fraction = 0.0
    """Factor of earlier importance at the end of each step. It is measured on the same source every
    time, so that 1, which sums, holds the weights more firmly in every step."""

    builds: ClassVar[str] = "muhdi.retention.ewc:EWC"
    needs_source: ClassVar[bool] = True

    method: Literal["ewc"] = "ewc"
    """The method's name."""


class MASConfig(ImportanceConfig):
    """Memory aware synapses: importance is measured on each target before that leaves."""

    builds: ClassVar[str] = "muhdi.retention.ewc:MAS"

    method: Literal["mas"] = "mas"
    """The method's name."""
    weight: Weight = 0.01
    """Factor of half the squared distance, weighted by importance."""


class RestoreConfig(RetentionConfig):
    """Stochastic restore: now and then a weight goes back to where it was."""

    builds: ClassVar[str] = "muhdi.retention.restore:StochasticRestore"
    holds_weights: ClassVar[bool] = True

    method: Literal["restore"] = "restore"
    """The method's name."""
    probability: Fraction = 0.01
    """Of each element of each weight to return, after every update."""


class AverageConfig(RetentionConfig):
    """Weight averaging: a step ends between where it began and where it came to."""

    builds: ClassVar[str] = "muhdi.retention.average:WeightAveraging"
    holds_weights: ClassVar[bool] = True
    settles: ClassVar[bool] = True

    method: Literal["average"] = "average"
    """The method's name."""
    old: Fraction = 0.25
    """Share of the weights at the end of the previous step. What is kept or scored within the step
    is not averaged yet."""


class StatisticsConfig(RetentionConfig):
    """The batch norms' running statistics come back at the end of the step; what is kept or scored
    within the step has those that it moves."""

    builds: ClassVar[str] = "muhdi.retention.statistics:RunningStatistics"
    settles: ClassVar[bool] = True
    keeps_statistics: ClassVar[bool] = True

    method: Literal["statistics"] = "statistics"
    """The method's name."""


class BlendConfig(RetentionConfig):
    """Blended pseudo-labels: the network of the previous step has a say in them."""

    builds: ClassVar[str] = "muhdi.retention.blend:BlendedLabels"
    changes_pseudo_labels: ClassVar[bool] = True

    method: Literal["blend"] = "blend"
    """The method's name."""
    old: Fraction = 0.5
    """Share of the old network's probabilities."""
    old_statistics: Literal["batch", "running", "blend"] = "blend"
    """What the old network normalises with: each batch's statistics, its running ones, or these and
    a tenth of each image's own."""


class StyleConfig(RetentionConfig):
    """Replay without images: source images in the styles of earlier targets."""

    builds: ClassVar[str] = "muhdi.retention.style:StyleReplay"
    needs_source: ClassVar[bool] = True
    needs_old_model: ClassVar[bool] = False

    method: Literal["style"] = "style"
    """The method's name."""
    of: Literal["colour", "fourier"] = "colour"
    """What a style is: mean and covariance of the `colour`, or the low frequencies' amplitudes
    (`fourier`)."""
    probability: Fraction = 0.5
    """Of a source image to be shown in another style."""
    images: Positive = 32
    """Images of a target whose styles are kept."""
    current: bool = True
    """Whether the styles of the current target's images are used, too."""
    beta: Annotated[float, Field(gt=0, le=0.25)] = 0.01
    """Of `fourier`: half of the width of the square of frequencies, relative to the image's shorter
    side; less where the styles of a domain would take more than 64 KiB."""

    @model_validator(mode="after")
    def _options_are_used(self) -> StyleConfig:
        usual = type(self).model_fields["beta"].default
        if self.of != "fourier" and self.beta != usual:
            raise ValueError(f"beta: is an option of fourier, not of {self.of}; set of: fourier")
        return self


class ReplayConfig(RetentionConfig):
    """Replay: a few images of earlier targets are kept, with the network's own labels."""

    builds: ClassVar[str] = "muhdi.retention.replay:ImageReplay"
    needs_old_model: ClassVar[bool] = False

    method: Literal["replay"] = "replay"
    """The method's name."""
    images: Positive = 16
    """Images of each target that are kept, in the network's file."""
    threshold: Fraction = 0.9
    """Confidence from which a pixel's label is kept."""
    weight: Weight = 1.0
    """Factor of the cross entropy on kept images."""
    aux: Weight = 0.1
    """The aux level's weight, relative to the main one's."""


class OpaqueRetentionConfig(Opaque, RetentionConfig):
    """A retention of another package, not imported."""

    model_config = ConfigDict(extra="allow")
    # Its class knows; whoever trains imports that, and asks then.
    needs_old_model: ClassVar[bool] = False


_Retention = Annotated[
    SerializeAsAny[RetentionConfig],
    BeforeValidator(partial(plugins.read_section, RetentionConfig)),
]


class SeveralRetentionsConfig(RetentionConfig):
    """Several retentions in one step; a recipe lists them."""

    listed: list[_Retention]
    """The retentions, in order."""

    @property
    def parts(self) -> Sequence[RetentionConfig]:
        return self.listed

    @property
    def key(self) -> str:
        return " + ".join(part.key for part in self.listed)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"listed": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _go_together(self) -> SeveralRetentionsConfig:
        """Each counts once, and one old model at most teaches."""
        if not self.listed:
            raise ValueError("lists no retention; name one, or none")
        keys = [part.key for part in self.listed]
        if len(keys) > 1 and NO_RETENTION.key in keys:
            raise ValueError(f"{NO_RETENTION.key} does not go with others; leave it out")
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is listed twice; name each once")
        specialised = [part.key for part in self.listed if part.trains_specialist]
        if len(specialised) > 1:
            raise ValueError(
                f"{' and '.join(specialised)} both say which heads there are; leave one of them out"
            )
        distilling = [part.key for part in self.listed if part.distils]
        if len(distilling) > 1:
            raise ValueError(
                f"{' and '.join(distilling)} let the same old model teach; leave one of them out"
            )
        return self

    @model_serializer(mode="plain")
    def _as_list(self) -> list[Any]:
        return self.listed


def _read(value: Any, info: ValidationInfo) -> Any:
    """A retention from what a recipe holds: a name, a mapping, or a list of these."""
    if not isinstance(value, list):
        return plugins.read_section(RetentionConfig, value, info)
    return SeveralRetentionsConfig.model_validate(value, context=info.context)


RetentionField = Annotated[SerializeAsAny[RetentionConfig], BeforeValidator(_read)]

NO_RETENTION = NoRetentionConfig()
WITHOUT_SOURCE = DistillConfig()
"""What keeps a step without the source from collapsing (docs/methods.md, without the source)."""
GIVES_BACK = StatisticsConfig()
"""What such a step ends with: without the source it forgets the other domains' statistics."""
