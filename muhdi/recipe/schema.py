"""A run: network, optimizer, stages, evaluation, and the recipe that holds them all."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from muhdi.errors import MuhdiError, nearest
from muhdi.files import file_name
from muhdi.recipe.domains import AugmentConfig, DataConfig, FolderConfig, LoaderConfig
from muhdi.recipe.methods import (
    AdaptationField,
    AdventConfig,
    NoAdaptationConfig,
    NoRetentionConfig,
    RetentionField,
)
from muhdi.recipe.section import Fraction, NotNegative, Part, Positive, Rate, Size, Weight
from muhdi.taxonomy import CLASS_SETS, MAX_CLASSES, ClassSet, custom

Kind = Literal["running", "domain", "image"]
"""Whose mean and variance the batch norms use at evaluation, see `muhdi.models.statistics`."""
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_NAME = 200
"""Bytes that a domain's name may have in the name of a file."""


NormKind = Literal["batch", "synced", "frozen"]
"""Whose statistics the batch norms use while training: see `ModelConfig`."""


class ModelConfig(Part):
    """``batch_norm``: while training it normalises with the statistics of the ``batch`` that a device sees, with those
    of the whole batch over all devices (``synced``), or with its running ones, which then stay
    (``frozen``). ``init``: a file to start from (a network of ours, the reference's, or a ResNet
    state dict), by itself or below the recipe's ``root``; none: random. ``multi_level``: heads have
    an aux level after stage 3 beside the main one.
    """

    backbone: Literal["small", "resnet50", "resnet101"] = "small"
    init: str | None = None
    multi_level: bool = True
    batch_norm: NormKind = "batch"


class OptimizerConfig(Part):
    """The rate decays as (1 - i / iterations) ** power; heads learn ``head_factor`` times as fast.

    ``momentum`` is AdamW's beta1. ``updates``: how often a parameter is updated per iteration:
    ``once``, or as the ``reference`` does, backbone convolutions three or four times (sgd only).
    """

    name: Literal["adamw", "sgd"] = "sgd"
    weight_decay: Weight = 5e-4
    momentum: Fraction = 0.9
    power: Weight = 0.9
    head_factor: Rate = 10.0
    updates: Literal["once", "reference"] = "once"


class Stage(Part):
    """What training on the source and every step have in common.

    ``schedule``: the iterations after which the learning rate would be 0; none: ``iterations``.
    ``batch_size`` counts images per domain and update, whatever the number of devices: they share
    the batch. ``accumulate``: parts in which a device computes its share of it, one after another,
    to save memory; batch norm, unless ``frozen``, then sees the statistics of a part.
    """

    iterations: NotNegative = 0
    schedule: Positive | None = None
    batch_size: Positive = 1
    accumulate: Positive = 1
    learning_rate: Rate = 2.5e-4
    weight_main: Weight = 1.0
    weight_aux: Weight = 0.1


class StepConfig(Stage):
    """One step of the sequence.

    A new target domain, how it is learnt, and how the old ones are kept.

    ``target_batch_size``: none: ``batch_size``.
    """

    target: DataConfig
    iterations: Positive
    adaptation: AdaptationField = NoAdaptationConfig()
    retention: RetentionField = NoRetentionConfig()
    target_batch_size: Positive | None = None


class EvaluationConfig(Part):
    """``size``: width and height at which predictions are scored.

    ``native``: each label's own size.

    ``input_size``: of the images that are scored; none: that of the training images.
    ``domain_images``: training images from which a domain's statistics are measured. ``samples``:
    predictions per domain that are kept as images after the last step.
    """

    statistics: Annotated[list[Kind], Field(min_length=1)] = list(KINDS)
    batch_size: Positive = 8
    size: Annotated[
        Size | None, BeforeValidator(lambda size: None if size == "native" else size)
    ] = None
    input_size: Size | None = None
    domain_images: Positive = 64
    samples: NotNegative = 4


class TestedConfig(Part):
    """Which networks ``muhdi evaluate RECIPE`` scores, and on what.

    ``models``: network files; several are an ensemble, whose logits are added with ``weights``.
    None: the run's own: its ``last`` one, or with ``mode: best`` each snapshot, of which the best
    is chosen by the validation labels; ``every`` and ``until`` narrow them down to iterations that
    are multiples, and not beyond. ``snapshots``: folder of these snapshots, where it is not the
    run's. ``domains``: names of those that are scored; none: all targets and extra domains.
    """

    mode: Literal["last", "best"] = "last"
    models: list[str] = []
    weights: list[Weight] = []
    every: Positive | None = None
    until: Positive | None = None
    snapshots: str | None = None
    domains: list[str] = []


class Recipe(Part):
    """A whole run.

    ``source_training`` trains on the labelled ``source`` before the first step; a recipe that
    trains nothing needs no source. ``extra_domains`` are evaluated like all others and never
    trained on. ``root``: where relative paths of data sets begin. ``cache``: folder where decoded
    and resized images are kept between runs; none: they are not. ``draft``: decode JPEG files at a
    half, a quarter or an eighth of their size where the network sees them no larger; quicker, and
    not quite the same pixels. ``device``: ``auto`` is a GPU where there is one. ``devices``: how
    many of them a machine uses, ``auto`` all that it has; ``nodes``: machines. ``strategy``:
    ``ddp`` is a process per device, ``auto`` that where there are several. ``channels_last``:
    memory format of the network and its images. ``compile``: by torch.compile. ``snapshots`` and
    ``logs``: folders of the run's directory and of its TensorBoard events. ``save_every``:
    iterations between training states, of which the last ``keep`` stay; ``snapshot_every``: between
    networks within a stage, which all stay. ``skip_bad``: how many batches each stage may leave out
    because a loss or a gradient is not finite; with 0 the first one stops the run, and nothing has
    to be looked at in every iteration. ``notes``: what the user is told when the recipe is used.
    """

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=150)]
    description: str = ""
    notes: list[str] = []
    seed: NotNegative = 0
    root: str = "."
    classes: str | list[str] = "urban7"
    image_size: Size
    source: DataConfig | None = None
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = AugmentConfig()
    loader: LoaderConfig = LoaderConfig()
    cache: str | None = None
    draft: bool = False
    source_training: Stage = Stage()
    steps: list[StepConfig] = []
    extra_domains: list[DataConfig] = []
    evaluation: EvaluationConfig = EvaluationConfig()
    test: TestedConfig = TestedConfig()
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    channels_last: bool = False
    compile: bool = False
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")] = "auto"
    devices: Positive | Literal["auto"] = 1
    nodes: Positive = 1
    strategy: Literal["auto", "ddp"] = "auto"
    log_every: Positive = 10
    save_every: Positive = 1000
    keep: Positive = 2
    skip_bad: NotNegative = 0
    snapshot_every: Positive | None = None
    snapshots: str = "experiments/snapshots"
    logs: str = "experiments/logs"

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        self.class_set()
        self._check_domains()
        self._check_training()
        self._check_steps()
        if self.test.weights and len(self.test.weights) != len(self.test.models):
            raise MuhdiError(
                f"test.weights: give one for each of the {len(self.test.models)} test.models"
            )
        if self.test.weights and not 0 < sum(self.test.weights) < math.inf:
            raise MuhdiError("test.weights: at least one must be above 0")
        known = {data.domain_name for _, data in self.domains()}
        for name in self.test.domains:
            if name not in known:
                hint = nearest(name, sorted(known))
                raise MuhdiError(
                    f"test.domains: no domain is called {name!r}{hint} (known:"
                    f" {', '.join(sorted(known))})"
                )
        return self

    def _check_domains(self) -> None:
        """A name stands for one domain, and id tables name known classes."""
        names: dict[str, DataConfig] = {}
        files: dict[str, str] = {}
        for key, data in self.domains():
            known = names.setdefault(data.domain_name, data)
            if known != data:
                raise MuhdiError(
                    f"{key}: another domain is called {data.domain_name!r} too; give one of them a"
                    " 'name' of its own"
                )
            stem = file_name(data.domain_name)
            if len(stem.encode()) > MAX_NAME:
                raise MuhdiError(
                    f"{key}: its name is too long for a file; give it a 'name' of its own"
                )
            if files.setdefault(stem, data.domain_name) != data.domain_name:
                raise MuhdiError(
                    f"{key}: files of {data.domain_name!r} would be called like those of"
                    f" {files[stem]!r}; give one of them another 'name'"
                )
            if isinstance(data, FolderConfig) and data.ids:
                try:
                    self.class_set().lookup(data.ids)
                except MuhdiError as error:
                    raise MuhdiError(f"{key}.ids: {error}") from None
        if not names:
            raise MuhdiError(
                "source: this key is missing; without one there must be extra_domains to evaluate"
            )

    def _check_training(self) -> None:
        """There is something to do, and what it takes."""
        trains = bool(self.steps or self.source_training.iterations)
        if trains and self.source is None:
            raise MuhdiError("source: this key is missing; training needs a labelled source")
        if not trains and not self.model.init and not self.test.models and self.test.mode != "best":
            raise MuhdiError(
                "steps: nothing to do; add steps, source_training.iterations, model.init or"
                " test.models"
            )
        untrained = not self.source_training.iterations and not self.model.init
        if self.steps and untrained and self.steps[0].retention.method != "none":
            raise MuhdiError(
                f"steps.0.retention: {self.steps[0].retention.method!r} keeps what an old model"
                " knows, but there is none: set model.init or source_training.iterations, or"
                " retention: none"
            )
        if self.optimizer.name == "adamw" and self.optimizer.momentum >= 1:
            raise MuhdiError("optimizer.momentum: must be below 1 for adamw")
        if self.optimizer.updates == "reference" and self.optimizer.name != "sgd":
            raise MuhdiError(
                "optimizer.updates: 'reference' is a way of SGD; set optimizer.name: sgd"
            )

    def _check_steps(self) -> None:
        """Every step's images suit its adaptation."""
        for number, step in enumerate(self.steps):
            if isinstance(step.adaptation, AdventConfig):
                self._check_discriminators(number, step.adaptation)
            if step.adaptation.method != "selftrain" or self.source is None:
                continue
            if self.size_of(step.target) != self.size_of(self.source):
                raise MuhdiError(
                    f"steps.{number}.adaptation: selftrain mixes source and target images, which"
                    " must have one image_size"
                )
            if step.target_batch_size not in (None, step.batch_size):
                raise MuhdiError(
                    f"steps.{number}.target_batch_size: selftrain mixes each source image with one"
                    " of the target; leave it out"
                )

    def _check_discriminators(self, number: int, config: AdventConfig) -> None:
        """Images are large enough for them, and files and earlier discriminators fit."""
        key = f"steps.{number}.adaptation"
        sizes = [
            self.size_of(data)
            for data in (self.source, self.steps[number].target)
            if data is not None
        ]
        if min(map(min, sizes)) < 32:
            raise MuhdiError(
                f"{key}: advent's discriminators halve the image five times; image_size must be at"
                " least 32x32"
            )
        if config.init_aux and not self.model.multi_level:
            raise MuhdiError(
                f"{key}.init_aux: with model.multi_level: false there is no aux discriminator"
            )
        earlier = [
            step.adaptation
            for step in self.steps[:number]
            if isinstance(step.adaptation, AdventConfig)
        ]
        if config.discriminators == "previous" and earlier and earlier[-1].width != config.width:
            raise MuhdiError(
                f"{key}.width: the previous discriminators, which go on, are {earlier[-1].width}"
                " wide"
            )

    def size_of(self, data: DataConfig) -> Size:
        """Width and height of a domain's training images."""
        return data.image_size or self.image_size

    def class_set(self) -> ClassSet:
        """The class set that ``classes`` names or lists."""
        if isinstance(self.classes, str):
            if self.classes not in CLASS_SETS:
                hint = nearest(self.classes, list(CLASS_SETS))
                raise MuhdiError(
                    f"classes: unknown class set {self.classes!r}{hint} (known:"
                    f" {', '.join(CLASS_SETS)}, or a list of class names)"
                )
            return CLASS_SETS[self.classes]
        if (
            len(self.classes) < 2
            or len(set(self.classes)) < len(self.classes)
            or len(self.classes) > MAX_CLASSES
        ):
            raise MuhdiError(f"classes: give from 2 to {MAX_CLASSES} class names, each once")
        return custom(self.classes)

    def source_name(self) -> str:
        """What results call the source; empty where there is none."""
        return "" if self.source is None else self.source.domain_name

    def domains(self) -> list[tuple[str, DataConfig]]:
        """Key in the recipe and description of the source, every step's target and the extra domains, in order."""
        targets = [(f"steps.{i}.target", step.target) for i, step in enumerate(self.steps)]
        extra = [(f"extra_domains.{i}", data) for i, data in enumerate(self.extra_domains)]
        source = [] if self.source is None else [("source", self.source)]
        return [*source, *targets, *extra]
