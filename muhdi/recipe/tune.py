"""How much of a pretrained backbone is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from muhdi.errors import RecipeError
from muhdi.recipe.optimizer import OptimizerConfig
from muhdi.recipe.retentions import RetentionConfig
from muhdi.recipe.section import Rate, Worded

RANK = 16
"""Of LoRA's adapters, where nobody chooses."""
ALPHA = 16.0
"""Numerator of LoRA's scale, where nobody chooses."""


class TuneConfig(Worded):
    """What training changes of the backbone; decoder and heads are always trained."""

    word_field: ClassVar[str] = "method"

    method: Literal["full", "frozen", "lora"] = "full"
    """All of it (`full`); nothing, its norms and dropout are as in evaluation, too (`frozen`); or
    low-rank changes of its linear layers alone, which are added to them at the end of every stage
    (`lora`)."""
    rank: Annotated[int, Field(gt=0, le=4096)] | None = None
    """Of the changes of `lora`; none: 16."""
    alpha: Rate | None = None
    """The changes of `lora` are multiplied by alpha / rank; none: 16."""

    @property
    def lora_rank(self) -> int:
        """The rank, once nothing is left open."""
        return self.rank or RANK

    @property
    def lora_alpha(self) -> float:
        """Alpha, once nothing is left open."""
        return ALPHA if self.alpha is None else self.alpha

    @model_validator(mode="after")
    def _options_are_used(self) -> TuneConfig:
        for key in ("rank", "alpha"):
            if self.method != "lora" and getattr(self, key) is not None:
                raise ValueError(f"{key}: is an option of lora, not of {self.method}; leave it out")
        return self

    def check(self, optimizer: OptimizerConfig, retentions: Mapping[str, RetentionConfig]) -> None:
        """Refuse what has no meaning where not all of the backbone is trained.

        Args:
            optimizer: section of the recipe.
            retentions: sections of the recipe by key.

        Raises:
            RecipeError: names the key.
        """
        if self.method == "full":
            return
        if optimizer.updates == "reference":
            raise RecipeError(
                "optimizer.updates: 'reference' says how often a backbone's weights are updated,"
                f" but model.tune: {self.method} leaves them alone; leave it out"
            )
        if self.method == "frozen":
            if optimizer.layer_decay != 1:
                raise RecipeError(
                    "optimizer.layer_decay: is for layers of the backbone, of which model.tune:"
                    " frozen trains none; leave it out"
                )
            return
        if optimizer.ema is not None:
            raise RecipeError(
                "optimizer.ema: averages the network's weights, but model.tune: lora trains"
                " adapters that begin anew in every stage; leave it out, or choose another"
                " model.tune"
            )
        for key, retention in retentions.items():
            holding = [part.key for part in retention.parts if part.holds_weights]
            if holding:
                raise RecipeError(
                    f"{key}: {holding[0]} holds the network's weights near earlier ones, but"
                    " model.tune: lora trains adapters that begin anew in every stage; choose"
                    " another retention, or model.tune: full"
                )
