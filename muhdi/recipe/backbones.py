"""Backbones, by the name that recipes use."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, SerializeAsAny, TypeAdapter, ValidationError

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.section import Buildable, Opaque

DecoderName = Literal["deeplab", "lateral"]
"""What heads share: nothing, or all features enlarged, summed and mixed."""


class BackboneConfig(Buildable):
    """What turns images into features."""

    kind: ClassVar[str] = "backbone"
    key_field: ClassVar[str] = "name"

    name: str = ""
    """The backbone's name."""


class SmallConfig(BackboneConfig):
    """A residual net of about a hundred thousand parameters, for work on a CPU."""

    builds: ClassVar[str] = "muhdi.models.backbones.small:SmallResNet"

    name: Literal["small"] = "small"
    """The backbone's name."""


class ResNetConfig(BackboneConfig):
    """DeepLab-v2's dilated ResNet."""

    builds: ClassVar[str] = "muhdi.models.backbones.resnet:DilatedResNet"

    name: Literal["resnet50", "resnet101"]
    """The backbone's name."""


class EfficientNetLiteConfig(BackboneConfig):
    """EfficientNet-Lite, a pyramid for CPUs."""

    builds: ClassVar[str] = "muhdi.models.backbones.efficientnet_lite:EfficientNetLite"

    name: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    """The backbone's name."""


class OpaqueBackboneConfig(Opaque, BackboneConfig):
    """A backbone of another package, read without trust: it imports nothing."""

    model_config = ConfigDict(extra="allow")


BackboneField = Annotated[
    SerializeAsAny[BackboneConfig],
    BeforeValidator(partial(plugins.read_section, BackboneConfig)),
]


def read_backbone(value: Any, *, trust_code: bool = True) -> BackboneConfig:
    """The section of a backbone, from its name or a mapping.

    Raises:
        RecipeError: there is no such backbone, or its options are wrong.
    """
    adapter: TypeAdapter[BackboneConfig] = TypeAdapter(BackboneField)
    try:
        return adapter.validate_python(value, context={"trust_code": trust_code})
    except ValidationError as error:
        raise RecipeError(f"backbone: {error.errors(include_url=False)[0]['msg']}") from None
