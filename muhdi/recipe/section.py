"""What all parts of a recipe share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0, lt=2**63)]
NotNegative = Annotated[int, Field(ge=0, lt=2**63)]
Weight = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1e6, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=8, le=32768)]
Size = tuple[Side, Side]
"""Width and height in pixels."""
Name = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """A part of a recipe: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def named(value: Any) -> Any:
    """``advent`` is short for ``{method: advent}``."""
    return {"method": value} if isinstance(value, str) else value
