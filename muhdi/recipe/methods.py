"""Adaptations: how a new domain is learned.

One section each: its options, what the rest of the program needs to know of it, and the class that
it builds.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.presets import SELF_TRAINING, SelfTrainingPreset, over
from muhdi.recipe.pseudo_labels import (
    FeatureDistanceConfig,
    MaskedConfig,
    PseudoLabelConfig,
    StrongColourConfig,
    WeakColourConfig,
)
from muhdi.recipe.section import Buildable, Opaque, Rate, Weight


class MethodConfig(Buildable):
    """What the sections of all methods share.

    Attributes:
        needs_old_model: whether it keeps what an earlier model knows, so that there must be one.
        needs_source: whether it learns from source images, so that they must be there.
    """

    needs_old_model: ClassVar[bool] = False
    needs_source: ClassVar[bool] = False

    method: str = ""
    """The method's name."""

    def initial_files(self) -> dict[str, str]:
        """Files that the method's own networks start from, by network."""
        return {}

    @property
    def carries(self) -> bool:
        """Whether the method's own networks continue from those of an earlier step."""
        return False

    def check_start(self, key: str, multi_level: bool, earlier: Any) -> None:
        """Refuse what the method's own networks cannot start from.

        Args:
            key: of this section in the recipe, for the message.
            multi_level: whether heads have an aux level.
            earlier: the section of the last earlier step with the same method, or None.

        Raises:
            RecipeError: it does not fit.
        """

    def check_step(self, key: str, targets: int, iterations: int) -> None:
        """Refuse a step in which the method makes no sense.

        Args:
            key: of this section in the recipe, for the message.
            targets: number of targets that the step learns together.
            iterations: of the step.

        Raises:
            RecipeError: it does not suit the step.
        """

    def for_one_target(self) -> MethodConfig | None:
        """What of the section makes sense in a step with a single target; None: nothing does."""
        return self


class AdaptationConfig(MethodConfig):
    """How the new target domain is learned.

    Attributes:
        reads_target_labels: whether the target's labels are opened.
        needs_equal_sizes: whether source and target batches must match, in size and number.
        makes_pseudo_labels: whether it labels the target itself, for masked consistency too.
        smallest_side: pixels that the images' sides must have at least.
        sums_targets: whether the losses on several targets are added, as adversarial ones are in
            MTAF (Saporta et al. 2021). Else they are averaged, so that the source keeps its weight
            however many targets there are.
    """

    kind: ClassVar[str] = "adaptation"
    reads_target_labels: ClassVar[bool] = False
    needs_equal_sizes: ClassVar[bool] = False
    makes_pseudo_labels: ClassVar[bool] = False
    smallest_side: ClassVar[int] = 0
    sums_targets: ClassVar[bool] = False

    masked: MaskedConfig | None = None
    """Masked consistency besides: a further pass on target images with hidden patches."""
    feature_distance: FeatureDistanceConfig | None = None
    """The distance to the pretrained backbone's features besides, on things in the source."""

    @property
    def has_teacher(self) -> bool:
        """Whether a mean teacher follows the network."""
        return self.makes_pseudo_labels or self.masked is not None

    @model_validator(mode="after")
    def _one_teacher(self) -> AdaptationConfig:
        own = self.masked is not None and self.masked.pseudo_labels is not None
        if own and self.makes_pseudo_labels:
            raise ValueError(
                f"masked.pseudo_labels: {self.key} labels the target itself; leave the section out"
            )
        return self


class NoAdaptationConfig(AdaptationConfig):
    """The control: target images pass through the network, so that its normalisation sees them."""

    builds: ClassVar[str] = "muhdi.adaptation.none:NoAdaptation"

    method: Literal["none"] = "none"
    """The method's name."""


class MinEntConfig(AdaptationConfig):
    """Entropy minimisation on the target."""

    builds: ClassVar[str] = "muhdi.adaptation.minent:MinEnt"

    method: Literal["minent"] = "minent"
    """The method's name."""
    weight_main: Weight = 0.001
    """Factor of the main level's entropy."""
    weight_aux: Weight = 0.0002
    """Factor of the aux level's entropy."""


class AdventConfig(AdaptationConfig):
    """Adversarial training on entropy maps."""

    builds: ClassVar[str] = "muhdi.adaptation.advent:AdvEnt"
    needs_source: ClassVar[bool] = True
    smallest_side: ClassVar[int] = 32  # the discriminators halve an image five times
    sums_targets: ClassVar[bool] = True

    method: Literal["advent"] = "advent"
    """The method's name."""
    weight_main: Weight = 0.001
    """Factor of the main level's adversarial loss."""
    weight_aux: Weight = 0.0002
    """Factor of the aux level's adversarial loss."""
    learning_rate: Rate = 1e-4
    """Of the discriminators, at the start of the step."""
    width: Annotated[int, Field(gt=0, le=4096)] = 64
    """Channels of the discriminators' first layer; at 64 each has 2.8 million parameters."""
    aux_sees_source: bool = True
    """Whether the aux discriminator trains on the source, too; in the reference's AdvEnt it does
    not."""
    discriminators: Literal["fresh", "previous"] = "fresh"
    """`fresh` ones in every step, or those of the `previous` step with this method."""
    discriminators_per: Literal["step", "target", "pair"] = "step"
    """With several `targets`: one discriminator per level for all of them in a `step`, one for each
    `target`, or besides those others that tell each `pair` of targets apart (Multi-Dis)."""
    mtaf_quirks: bool = False
    """With several `targets`, what MTAF's code does by accident: `step` has the discriminators make
    as many updates as there are targets on one gradient, `step` and `pair` weigh the source less at
    the aux level, `target` deceives the last target's aux discriminator alone, and `pair` trains
    the last one alone of those that tell three targets or more apart at the aux level."""
    init_main: str | None = None
    """File that the main discriminator starts from, the reference's or ours; none: random."""
    init_aux: str | None = None
    """File that the aux discriminator starts from; none: random."""

    def initial_files(self) -> dict[str, str]:
        files = {"D_main": self.init_main, "D_aux": self.init_aux}
        return {name: file for name, file in files.items() if file is not None}

    @property
    def carries(self) -> bool:
        return self.discriminators == "previous"

    def check_start(self, key: str, multi_level: bool, earlier: Any) -> None:
        if self.init_aux and not multi_level:
            raise RecipeError(
                f"{key}.init_aux: with model.multi_level: false there is no aux discriminator"
            )
        if self.carries and earlier is not None and earlier.discriminators_per != "step":
            raise RecipeError(
                f"{key}.discriminators: the previous ones are by {earlier.discriminators_per}, and"
                " none of them is for all targets of a step; set fresh"
            )
        if self.carries and earlier is not None and earlier.width != self.width:
            raise RecipeError(
                f"{key}.width: the previous discriminators, which continue, are {earlier.width} "
                "wide"
            )

    def check_step(self, key: str, targets: int, iterations: int) -> None:
        if targets == 1 and self.discriminators_per == "pair":
            raise RecipeError(
                f"{key}.discriminators_per: pair tells targets apart, but the step has one; name"
                " several in targets, or leave it out"
            )
        if targets == 1 and self.mtaf_quirks:
            raise RecipeError(
                f"{key}.mtaf_quirks: a step with one target has none of them; leave it out"
            )

    def for_one_target(self) -> AdventConfig:
        one: dict[str, Any] = {"mtaf_quirks": False}
        if self.discriminators_per == "pair":
            one["discriminators_per"] = "step"
        return self.model_copy(update=one)

    @model_validator(mode="after")
    def _one_start(self) -> AdventConfig:
        started = self.carries or self.initial_files()
        if started and self.discriminators_per != "step":
            raise ValueError(
                f"discriminators_per: {self.discriminators_per} has fresh ones in every step; leave"
                " discriminators, init_main and init_aux out"
            )
        if self.carries and self.initial_files():
            raise RecipeError(
                "adaptation: discriminators: previous and init_main or init_aux exclude each other"
            )
        return self


class SelfTrainConfig(StrongColourConfig, PseudoLabelConfig, AdaptationConfig):
    """Self-training: mean teacher and class mixing."""

    builds: ClassVar[str] = "muhdi.adaptation.selftrain:SelfTrain"
    needs_equal_sizes: ClassVar[bool] = True  # images are mixed pixel by pixel
    makes_pseudo_labels: ClassVar[bool] = True

    method: Literal["selftrain"] = "selftrain"
    """The method's name."""
    # Gone once its values are there: a saved recipe holds those, also where they were taken back.
    preset: SelfTrainingPreset | None = None
    """The values of a paper for all options that are not given, and for `mean_over` of the step:
    `dacs`, `daformer`, `mic` or `vfm_uda`."""
    weight_main: Weight = 1.0
    """Factor of the main level's cross entropy on mixed images."""
    weight_aux: Weight = 0.1
    """Factor of the aux level's cross entropy on mixed images."""
    paste_ignored: bool = False
    """Whether the source's ignored pixels can be pasted, as if they were a class."""
    mixed_classes: Literal["image", "batch"] = "image"
    """Half of the classes of its own source `image` is pasted onto a target image, or half of those
    of the whole source `batch`."""
    weak_colours: WeakColourConfig | None = None
    """Weak changes of colours, `{}` as published, of source images, and of target images before
    classes are pasted onto them; what is pasted, and what the teacher sees, stays. None: no weak
    changes. `augment.colour` comes before, and changes what everybody sees."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        """The preset's values, below those that are given."""
        name = value.get("preset") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in SELF_TRAINING:
            return value  # what is no preset is refused by the field itself
        given = {key: one for key, one in value.items() if key != "preset"}
        usual = {key for key, field in cls.model_fields.items() if field.default is not None}
        if usual <= given.keys():
            raise ValueError(
                f"preset: {name} would change next to nothing, since all options are given, as in"
                " the recipe of a run; replace the whole section by {method: selftrain, preset:"
                f" {name}}}"
            )
        return over(SELF_TRAINING[name], given)


class OracleConfig(AdaptationConfig):
    """The upper bound: trains on the target's labels, which no other method ever opens."""

    builds: ClassVar[str] = "muhdi.adaptation.oracle:Oracle"
    reads_target_labels: ClassVar[bool] = True

    method: Literal["oracle"] = "oracle"
    """The method's name."""
    weight_main: Weight = 1.0
    """Factor of the main level's cross entropy."""
    weight_aux: Weight = 0.1
    """Factor of the aux level's cross entropy."""


class OpaqueAdaptationConfig(Opaque, AdaptationConfig):
    """An adaptation of another package, not imported."""

    model_config = ConfigDict(extra="allow")


AdaptationField = Annotated[
    SerializeAsAny[AdaptationConfig],
    BeforeValidator(partial(plugins.read_section, AdaptationConfig)),
]
NO_ADAPTATION = NoAdaptationConfig()

NEXT_STEP: dict[str, Any] = {
    "iterations": 300,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "adaptation": {"method": "selftrain", "threshold_per": "class"},
    "retention": {"method": "style"},
}
"""A step as it is recommended: of new recipes, and for networks whose run had none."""

REFERENCE = {"adaptation": "advent", "retention": "muhdi"}
"""The methods of the 2022 code."""
