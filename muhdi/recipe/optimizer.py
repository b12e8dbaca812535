"""How weights are updated: optimizer, learning rate and what keeps updates in bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from muhdi.errors import RecipeError
from muhdi.recipe.section import Fraction, NotNegative, Rate, Section, Weight

DecayOn = Literal["all", "weights"]
POWER = 0.9
"""Exponent of ``poly`` where nobody chooses."""


class OptimizerConfig(Section):
    """How weights are updated."""

    name: Literal["adamw", "sgd"] = "sgd"
    """The optimizer."""
    weight_decay: Weight = 5e-4
    """Decay of the weights."""
    decay_on: DecayOn | None = None
    """What decays: `all` parameters, or `weights` alone, neither norms and biases nor positions,
    tokens and layer scales. None: `weights` for adamw, `all` for sgd."""
    momentum: Fraction = 0.9
    """Of SGD; AdamW's beta1."""
    annealing: Literal["poly", "cosine", "none"] = "poly"
    """How the learning rate falls to 0 over iterations i of n: as (1 - i / n) ** power (`poly`), as
    (1 + cos(pi i / n)) / 2 (`cosine`), or not at all (`none`)."""
    power: Weight | None = None
    """Exponent of `poly`; none: 0.9."""
    warmup: NotNegative = 0
    """Iterations at the start of every stage in which the learning rate rises to that of the
    annealing, linearly, from a millionth of it; of methods' own networks, too."""
    head_factor: Rate = 10.0
    """Decoder and heads learn this many times as fast as the backbone."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Each layer of the backbone learns this many times as fast as the layer after it; the last one
    this many times as fast as without."""
    clip: Rate | None = None
    """Largest norm of all gradients of the network together: longer ones are scaled down to it.
    Networks of a method's own are left alone. None: gradients stay as they are."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Momentum m of an average of all weights, w <- m w + (1 - m) w_network after every iteration,
    from stage to stage, with smaller m at the start. It is saved beside the network, which it does
    not change, and `evaluation.weights` uses it. None: there is none."""
    updates: Literal["once", "reference"] = "once"
    """How often a parameter is updated per iteration: `once`, or as the `reference` does, backbone
    convolutions three or four times (SGD only)."""

    @property
    def decays(self) -> DecayOn:
        """What decays, once nothing is left open."""
        return self.decay_on or ("weights" if self.name == "adamw" else "all")

    @property
    def exponent(self) -> float:
        """Of ``poly``."""
        return POWER if self.power is None else self.power

    @model_validator(mode="after")
    def _consistent(self) -> OptimizerConfig:
        if self.name == "adamw" and self.momentum >= 1:
            raise RecipeError("optimizer.momentum: must be below 1 for adamw")
        if self.power is not None and self.annealing != "poly":
            raise RecipeError(
                f"optimizer.power: is the exponent of poly, but annealing is {self.annealing};"
                " leave it out"
            )
        if self.updates == "reference":
            self._check_reference()
        return self

    def _check_reference(self) -> None:
        if self.name != "sgd":
            raise RecipeError(
                "optimizer.updates: 'reference' is a way of SGD; set optimizer.name: sgd"
            )
        if self.layer_decay != 1:
            raise RecipeError(
                "optimizer.layer_decay: the reference's layers learn alike; leave it out, or set"
                " optimizer.updates: once"
            )

    def check_stage(self, key: str, iterations: int, schedule: int | None) -> None:
        """Refuse a stage that the learning rate does not suit.

        Args:
            key: of the stage.
            iterations: of the stage.
            schedule: its own length of the annealing, if it has one.

        Raises:
            RecipeError: it ends before the warm-up, or its schedule would mean nothing.
        """
        if 0 < iterations < self.warmup:
            raise RecipeError(
                f"{key}.iterations: a stage of {iterations} ends before optimizer.warmup"
                f" ({self.warmup}) does; set a shorter warmup"
            )
        if schedule is not None and self.annealing == "none":
            raise RecipeError(
                f"{key}.schedule: with optimizer.annealing: none the learning rate stays; leave it"
                " out"
            )
