"""Recipes: what a run consists of. Every option, its type and its one default stand here.

A recipe is a YAML file; `muhdi.recipe` finds and merges the files, this module says what they may hold.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from muhdi.errors import MuhdiError, nearest
from muhdi.taxonomy import CLASS_SETS, MAX_CLASSES, ClassSet, custom

Positive = Annotated[int, Field(gt=0, lt=2**63)]
NotNegative = Annotated[int, Field(ge=0, lt=2**63)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

Kind = Literal["running", "domain", "image"]
"""Whose mean and variance the batch norms use at evaluation, see `muhdi.models.statistics`."""
KINDS: tuple[Kind, ...] = get_args(Kind)


class Part(BaseModel):
    """A part of a recipe: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- data -----------------------------------------------------------------------------------------------------------


class ScenesConfig(Part):
    """Built-in drawn street scenes.

    ``domain``: which look. ``train`` and ``val``: images per split. ``seed``: of the drawing; left out, the run's.
    """

    dataset: Literal["scenes"]
    domain: Literal["sim", "city", "dust", "night", "rain"]
    train: Positive = 300
    val: Positive = 80
    seed: NotNegative | None = None

    @property
    def domain_name(self) -> str:
        """What results call the domain."""
        return self.domain


class FolderConfig(Part):
    """Images and labels of one's own, found by pattern.

    Patterns are relative to ``root`` and may hold ``*``, ``**`` and ``{split}`` (train or val); label patterns also
    ``{stem}`` (the image's name without its ending), ``{name}`` and ``{parent}`` (its folder, relative to the part of
    the image pattern before the first ``*``). Without ``{split}`` and without ``val_images`` both splits hold the
    same images.

    ``ids``: raw id -> class name or ``ignore``; left out, a raw id is the class position and 255 is ignored.
    ``strict``: refuse a raw id that ``ids`` does not list, instead of ignoring and counting it.
    """

    dataset: Literal["folder"]
    name: Annotated[str, Field(min_length=1)] | None = None
    root: str = "."
    images: str
    labels: str | None = None
    val_images: str | None = None
    val_labels: str | None = None
    ids: dict[int, str] | None = None
    strict: bool = False

    @property
    def domain_name(self) -> str:
        """What results call the domain: ``name``, else the last part of ``root``, else the data set."""
        return self.name or PurePath(self.root).name or self.dataset


DataConfig = Annotated[ScenesConfig | FolderConfig, Field(discriminator="dataset")]


class AugmentConfig(Part):
    """Random changes of training images; the default changes nothing.

    ``crop``: the smallest window cut out, as a fraction of the image's sides, resized back to the full size.
    ``flip``: mirror half of the images. ``colour``: brightness, contrast and saturation by up to 1 +- this.
    """

    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    flip: bool = False
    colour: Fraction = 0.0


class LoaderConfig(Part):
    """``workers``: processes that load ahead (0: in the training process). ``memory_mb``: decoded images that each
    process keeps."""

    workers: NotNegative = 0
    memory_mb: NotNegative = 1024


# --- methods --------------------------------------------------------------------------------------------------------


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

    ``aux_sees_source``: the aux discriminator trains on the source too (the reference's AdvEnt does not). ``width``:
    channels of the discriminators' first layer; at 64 each has 2.8 million parameters.
    """

    method: Literal["advent"] = "advent"
    weight_main: Weight = 0.001
    weight_aux: Weight = 0.0002
    learning_rate: Rate = 1e-4
    width: Positive = 64
    aux_sees_source: bool = True


class SelfTrainConfig(Part):
    """Mean teacher and class mixing. ``threshold_per``: one threshold for every pixel, or per predicted class the
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

    ``aux``: the aux level's weight relative to the main one's. ``kl_reduction``: average over pixels, or over pixels
    and classes as the reference does. ``old_statistics``: what the old model normalises with.
    """

    method: Literal["distill"] = "distill"
    weight_source: Weight = 1.0
    weight_pod: Weight = 1e-3
    aux: Weight = 0.1
    kl_reduction: Literal["pixel", "element"] = "pixel"
    old_statistics: Literal["batch", "running"] = "batch"


class MuHDiConfig(DistillConfig):
    """Multi-head distillation: ``weight_target`` and ``target_loss`` are for specialist -> agnostic on the target."""

    method: Literal["muhdi"] = "muhdi"  # type: ignore[assignment]
    weight_target: Weight = 1.0
    target_loss: Literal["kl", "mse"] = "kl"


def _named(value: object) -> object:
    """``advent`` is short for ``{method: advent}``."""
    return {"method": value} if isinstance(value, str) else value


AdaptationConfig = NoAdaptationConfig | MinEntConfig | AdventConfig | SelfTrainConfig | OracleConfig
RetentionConfig = NoRetentionConfig | DistillConfig | MuHDiConfig
AdaptationField = Annotated[AdaptationConfig, Field(discriminator="method"), BeforeValidator(_named)]
RetentionField = Annotated[RetentionConfig, Field(discriminator="method"), BeforeValidator(_named)]


# --- training -------------------------------------------------------------------------------------------------------


class ModelConfig(Part):
    """``init``: a file to start from (a network of ours, the reference's, or a ResNet state dict); none: random."""

    backbone: Literal["small", "resnet50", "resnet101"] = "small"
    init: str | None = None


class OptimizerConfig(Part):
    """The rate decays as (1 - i / iterations) ** power; heads learn ``head_factor`` times as fast.

    ``momentum`` is AdamW's beta1.
    """

    name: Literal["adamw", "sgd"] = "sgd"
    weight_decay: Weight = 5e-4
    momentum: Fraction = 0.9
    power: Weight = 0.9
    head_factor: Rate = 10.0


class Stage(Part):
    """What training on the source and every step have in common; ``batch_size`` counts images per domain."""

    iterations: NotNegative = 0
    batch_size: Positive = 1
    learning_rate: Rate = 2.5e-4
    weight_aux: Weight = 0.1


class StepConfig(Stage):
    """One step of the sequence: a new target domain, how it is learnt, and how the old ones are kept."""

    target: DataConfig
    iterations: Positive
    adaptation: AdaptationField = NoAdaptationConfig()
    retention: RetentionField = NoRetentionConfig()


class EvaluationConfig(Part):
    """``size``: width and height at which predictions are scored; none: each label's own size.

    ``domain_images``: training images from which a domain's statistics are measured. ``samples``: predictions per
    domain that are kept as images after the last step.
    """

    statistics: Annotated[list[Kind], Field(min_length=1)] = list(KINDS)
    batch_size: Positive = 8
    size: tuple[Positive, Positive] | None = None
    domain_images: Positive = 64
    samples: NotNegative = 4


class Recipe(Part):
    """A whole run. ``source_training`` trains on the labelled source before the first step; ``extra_domains`` are
    evaluated like all others and never trained on."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=150)]
    description: str = ""
    seed: NotNegative = 0
    root: str = "."
    classes: str | list[str] = "urban7"
    image_size: tuple[Positive, Positive]
    source: DataConfig
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()
    loader: LoaderConfig = LoaderConfig()
    source_training: Stage = Stage()
    steps: list[StepConfig] = []
    extra_domains: list[DataConfig] = []
    evaluation: EvaluationConfig = EvaluationConfig()
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: Positive = 10
    save_every: Positive = 1000

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        self.class_set()
        names: dict[str, DataConfig] = {}
        for key, data in self.domains():
            known = names.setdefault(data.domain_name, data)
            if known != data:
                raise MuhdiError(
                    f"{key}: another domain is called {data.domain_name!r} too; give one of them a 'name' of its own"
                )
            if isinstance(data, FolderConfig) and data.ids:
                try:
                    self.class_set().lookup(data.ids)
                except MuhdiError as error:
                    raise MuhdiError(f"{key}.ids: {error}") from None
        if not self.steps and not self.source_training.iterations and not self.model.init:
            raise MuhdiError("steps: nothing to do; add steps, source_training.iterations or model.init")
        for number, step in enumerate(self.steps):
            if step.adaptation.method == "advent" and min(self.image_size) < 32:
                raise MuhdiError(
                    f"steps.{number}.adaptation: advent's discriminators halve the image five times; image_size must "
                    "be at least 32x32"
                )
        untrained = not self.source_training.iterations and not self.model.init
        if self.steps and untrained and self.steps[0].retention.method != "none":
            raise MuhdiError(
                f"steps.0.retention: {self.steps[0].retention.method!r} keeps what an old model knows, but there is "
                "none: set model.init or source_training.iterations, or retention: none"
            )
        return self

    def class_set(self) -> ClassSet:
        """The class set that ``classes`` names or lists."""
        if isinstance(self.classes, str):
            if self.classes not in CLASS_SETS:
                hint = nearest(self.classes, list(CLASS_SETS))
                raise MuhdiError(
                    f"classes: unknown class set {self.classes!r}{hint} (known: {', '.join(CLASS_SETS)}, or a list of "
                    "class names)"
                )
            return CLASS_SETS[self.classes]
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes) or len(self.classes) > MAX_CLASSES:
            raise MuhdiError(f"classes: give from 2 to {MAX_CLASSES} class names, each once")
        return custom(self.classes)

    def domains(self) -> list[tuple[str, DataConfig]]:
        """Key in the recipe and description of the source, every step's target and the extra domains, in order."""
        targets = [(f"steps.{i}.target", step.target) for i, step in enumerate(self.steps)]
        extra = [(f"extra_domains.{i}", data) for i, data in enumerate(self.extra_domains)]
        return [("source", self.source), *targets, *extra]
