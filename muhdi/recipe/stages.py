"""Stages of a run: training on the source, and the steps that follow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from muhdi.errors import RecipeError
from muhdi.files import file_name
from muhdi.recipe import plugins
from muhdi.recipe.domains import DomainConfig, DomainField
from muhdi.recipe.evaluation import EvaluationConfig
from muhdi.recipe.methods import NO_ADAPTATION, AdaptationField, MethodConfig
from muhdi.recipe.presets import step_of_preset
from muhdi.recipe.rare_classes import RareClassesConfig
from muhdi.recipe.retentions import NO_RETENTION, RetentionField
from muhdi.recipe.section import (
    MeanOver,
    Name,
    NotNegative,
    Opaque,
    Positive,
    Rate,
    Section,
    Weight,
)


def _is_a_number_or_a_file(value: Any) -> Any:
    """Refuse what is neither in words that say both."""
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if value is None or (is_count and value > 0) or (isinstance(value, str) and value):
        return value
    raise plugins.explained(
        f"must be a number of images above 0, or a text file that lists them (it is {value!r})"
    )


MAX_NAME = 200
"""Bytes that the name of a domain, or of a stage, may have in the name of a file."""

Labelled = Annotated[Positive | Name, BeforeValidator(_is_a_number_or_a_file)]
"""How many images, or the file that lists them."""


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
    mean_over: MeanOver = "labelled"
    """Whether the cross entropy on the source is the mean over the labelled pixels, or over all of
    the batch (DAFormer)."""
    rare_classes: RareClassesConfig | None = None
    """Draws source images for a class, rare ones more often, `{}` as published; none: each is drawn
    once per epoch."""

    @property
    def images(self) -> int:
        """Images per update, of all domains."""
        return self.batch_size


class StepConfig(StageConfig):
    """One step: new target domains, how they are learned, and how the old ones are kept."""

    target: DomainField | None = None
    """The new domain."""
    targets: list[DomainField] | None = None
    """In place of `target`: several new domains, which are learned together. Every update sees a
    batch of each."""
    iterations: Positive
    """Number of updates."""
    adaptation: AdaptationField = NO_ADAPTATION
    """How the target is learned; each of several in the same way."""
    retention: RetentionField = NO_RETENTION
    """How the earlier domains are kept."""
    source: Literal["labelled", "none"] = "labelled"
    """Whether the `labelled` source takes part. `none`: its images are not there any more; the step
    learns from the target alone."""
    target_batch_size: Positive | None = None
    """Images of each target per update; none: `batch_size`."""
    labelled: Labelled | None = None
    """A few target images whose labels take part: so many, evenly spread, or those that a text file
    names, one a line, as `muhdi label-sample` writes it. Every update sees a further batch of them,
    as large as the target's, with the cross entropy of the source. None: no label is opened."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        """What the preset of the adaptation says of the step, below what is given."""
        return step_of_preset(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _some_target(self) -> StepConfig:
        """One target, or several different ones."""
        if self.target is None and self.targets is None:
            raise ValueError("names no target; set target, or several domains in targets")
        if self.target is not None and self.targets is not None:
            raise ValueError("has target and targets; leave one of them out")
        if self.targets is not None and len(self.targets) < 2:
            raise ValueError("targets must hold two domains or more; name a single one as target")
        names = [domain.domain_name for domain in self.domains if not has_unknown_name(domain)]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"{name!r} is twice in targets; name each domain once")
        return self

    @property
    def domains(self) -> tuple[DomainConfig, ...]:
        """The new domains: one, or those that are learned together."""
        if self.targets is not None:
            return tuple(self.targets)
        assert self.target is not None
        return (self.target,)

    @property
    def domain_names(self) -> tuple[str, ...]:
        """What results call the new domains."""
        return tuple(domain.domain_name for domain in self.domains)

    @property
    def name(self) -> str:
        """Of the stage: the target's name, or those of several, ``city+night``."""
        return "+".join(self.domain_names)

    def keyed_domains(self, key: str) -> list[tuple[str, DomainConfig]]:
        """Key in the recipe, and section, of every new domain.

        Args:
            key: of this section.
        """
        if self.targets is None:
            return [(f"{key}.target", domain) for domain in self.domains]
        return [(f"{key}.targets.{number}", one) for number, one in enumerate(self.targets)]

    @property
    def uses_source(self) -> bool:
        """Whether source images take part."""
        return self.source == "labelled"

    @property
    def images(self) -> int:
        batches = 1 if self.labelled is None else 2
        of_source = self.batch_size if self.uses_source else 0
        return of_source + batches * self.target_images * len(self.domains)

    @property
    def target_images(self) -> int:
        """Images of each target per update."""
        return self.target_batch_size or self.batch_size

    @property
    def methods(self) -> list[tuple[str, MethodConfig]]:
        """Key in the step, and section, of the adaptation and of every retention."""
        parts = self.retention.parts
        found: list[tuple[str, MethodConfig]] = [("adaptation", self.adaptation)]
        if len(parts) == 1:
            return [*found, ("retention", parts[0])]
        return [*found, *((f"retention.{number}", part) for number, part in enumerate(parts))]

    def check_targets(self, key: str) -> None:
        """Refuse what several targets cannot share, and what a single one is too few for.

        Args:
            key: of this section.

        Raises:
            RecipeError: names the key.
        """
        for place, section in self.methods:
            section.check_step(f"{key}.{place}", len(self.domains), self.iterations)
        if self.targets is None:
            return
        if self.labelled is not None:
            raise RecipeError(
                f"{key}.labelled: takes images of a single target, but {key}.targets holds"
                f" {len(self.targets)}; leave it out"
            )
        unnamed = any(has_unknown_name(domain) for domain in self.domains)
        if not unnamed and len(file_name(self.name).encode()) > MAX_NAME:
            raise RecipeError(
                f"{key}.targets: their names together are too long for a file; give them shorter"
                " ones by 'name'"
            )

    def check_old_model(self, key: str) -> None:
        """Refuse to keep what an old model knows, where none has learned anything.

        Args:
            key: of this section.

        Raises:
            RecipeError: names the key.
        """
        for part in self.retention.parts:
            if part.needs_old_model:
                raise RecipeError(
                    f"{key}.retention: {part.key!r} keeps what an old model knows, but there is"
                    " none: set model.init or source_training.iterations, or retention: none"
                )

    def check_pseudo_labels(self, key: str) -> None:
        """Refuse a retention that changes pseudo-labels where nobody makes any.

        Args:
            key: of this section.

        Raises:
            RecipeError: names both keys.
        """
        for part in self.retention.parts:
            if part.changes_pseudo_labels and not self.adaptation.has_teacher:
                raise RecipeError(
                    f"{key}.retention: {part.key} changes pseudo-labels, but"
                    f" {key}.adaptation: {self.adaptation.key} makes none; choose one that does,"
                    " or set adaptation.masked"
                )

    def check_source(self, key: str) -> None:
        """Refuse what needs source images in a step without them.

        Args:
            key: of this section.

        Raises:
            RecipeError: names both keys.
        """
        if self.uses_source:
            return
        needing = {f"{key}.{place}": one.key for place, one in self.methods if one.needs_source}
        if self.adaptation.feature_distance is not None:
            needing[f"{key}.adaptation.feature_distance"] = "the distance"
        if self.rare_classes is not None:
            needing[f"{key}.rare_classes"] = "the sampling"
        if needing:
            place, name = next(iter(needing.items()))
            raise RecipeError(
                f"{place}: {name} needs source images, but {key}.source is none; leave it out, or"
                " choose another one"
            )

    def check_settled(self, key: str, evaluation: EvaluationConfig) -> None:
        """Refuse to score or choose networks that are not those which the step ends with.

        Args:
            key: of this section.
            evaluation: how networks are scored.

        Raises:
            RecipeError: names both keys.
        """
        settling = [part.key for part in self.retention.parts if part.settles]
        if settling and (evaluation.weights != "model" or evaluation.select != "last"):
            raise RecipeError(
                f"{key}.retention: {settling[0]} changes the network at the end of the step, and"
                " nothing but it; set evaluation.weights: model and evaluation.select: last"
            )

    def check_labelled(self, key: str) -> None:
        """Refuse a few labels where all are opened.

        Args:
            key: of this section.

        Raises:
            RecipeError: names both keys.
        """
        if self.labelled is not None and self.adaptation.reads_target_labels:
            raise RecipeError(
                f"{key}.labelled: {self.adaptation.key} learns from every label of the target;"
                " leave labelled out, or choose another adaptation"
            )


def has_unknown_name(data: DomainConfig) -> bool:
    """Whether only a class that is not trusted could say what results call a domain."""
    return isinstance(data, Opaque) and data.name is None
