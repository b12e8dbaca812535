"""Backbones, by the name that recipes use."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from muhdi.errors import RecipeError
from muhdi.recipe import plugins
from muhdi.recipe.section import Buildable, Name, Opaque, Positive, Worded

DecoderName = Literal["deeplab", "lateral", "segformer", "daformer", "light", "linear"]
"""What heads share, see `muhdi.models.decoders`."""


class DecoderConfig(Worded):
    """What the heads share."""

    word_field: ClassVar[str] = "name"

    name: DecoderName
    """`deeplab`: nothing, heads stand on the backbone's last two features. Of backbones with
    features of several strides: all features enlarged, summed and mixed (`lateral`); concatenated
    (`segformer`); concatenated, with context (`daformer`). Of plain transformers: the last layer,
    enlarged (`light`); all layers, as they are (`linear`)."""
    width: Annotated[int, Field(gt=0, le=4096)] | None = None
    """Channels of `lateral` (none: 64), `segformer` and `daformer` (none: 256)."""

    @model_validator(mode="after")
    def _width_is_used(self) -> DecoderConfig:
        if self.width is not None and self.name in ("deeplab", "light", "linear"):
            raise ValueError(f"width: the backbone decides the width of {self.name}; leave it out")
        return self


class BackboneConfig(Buildable):
    """What turns images into features.

    Attributes:
        recorded: keys that may be none in a recipe, and that a network's file always holds.
        of_starts: keys that say what a run starts from, and nothing of the network.
    """

    recorded: ClassVar[tuple[str, ...]] = ()
    of_starts: ClassVar[tuple[str, ...]] = ()

    kind: ClassVar[str] = "backbone"
    key_field: ClassVar[str] = "name"

    name: str = ""
    """The backbone's name."""

    @property
    def is_pretrained(self) -> bool:
        """Whether it brings weights of its own, where `model.init` is none."""
        return False

    def version_advice(self) -> str:
        """What a message adds where a file does not fit the network that this describes."""
        return ""


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


Channels = tuple[float, float, float]
"""A number for red, green and blue."""


class PackageConfig(BackboneConfig):
    """A network of another package, by its name there."""

    recorded: ClassVar[tuple[str, ...]] = ("configuration", "mean", "std", "package")
    of_starts: ClassVar[tuple[str, ...]] = ("pretrained", "file", "package")

    pretrained: bool = True
    """Start from its weights, where `model.init` is none; else from random ones."""
    options: dict[str, Any] = {}
    """Changes of its configuration, such as `{drop_path_rate: 0.1}`."""
    layers: Annotated[list[Positive], Field(min_length=2)] | None = None
    """Layers (of a plain transformer) or stages whose outputs are its features, counted from 1;
    none: the quarters of a plain transformer, the last four stages of others."""
    mean: Channels | None = None
    """Of red, green and blue in 0 to 1, which normalises images; none: as its own configuration
    says, or else ImageNet's."""
    std: Channels | None = None
    """The same for the deviation."""
    configuration: dict[str, Any] | None = None
    """Its configuration, as a network's file keeps it; none: as its name says."""
    package: str | None = None
    """The package and its version that a network's file was written with; none: what is there."""

    def version_advice(self) -> str:
        return "" if self.package is None else f"; it was written with {self.package}"

    @property
    def is_pretrained(self) -> bool:
        return self.pretrained

    @property
    def model_name(self) -> str:
        """Without the prefix."""
        return self.name.removeprefix(f"{self.prefix}:")


class TransformersConfig(PackageConfig):
    """A network of the package transformers: `hf:NAME` of the Hugging Face hub, or `hf:FOLDER`.

    MiT (SegFormer's encoder), and everything that its AutoBackbone knows: ConvNeXt, Swin, PVTv2,
    Hiera, DINOv2, DINOv3, BEiT, ResNet and others.
    """

    builds: ClassVar[str] = "muhdi.models.backbones.transformers:TransformersBackbone"
    prefix: ClassVar[str] = "hf"

    name: Annotated[str, Field(pattern=r"^hf:\S")]
    """Its name on the hub, or a folder with its `config.json`, as it is given, after `hf:`."""


class TimmConfig(PackageConfig):
    """A network of the package timm: `timm:NAME`.

    Any that takes images of more than one size: EfficientNet, ConvNeXt, ResNet, Swin, PVTv2, Hiera,
    MaxViT, ViT, EVA-02, DINOv2, DINOv3 and many others.
    """

    builds: ClassVar[str] = "muhdi.models.backbones.timm:TimmBackbone"
    prefix: ClassVar[str] = "timm"

    name: Annotated[str, Field(pattern=r"^timm:[^\s:]+$")]
    """Its name in timm, with the tag of its weights or without, after `timm:`."""
    file: Name | None = None
    """A file of its weights, in timm's names, as it is given; none: they are downloaded, or in the
    hub's cache."""
    output_stride: Literal[8, 16, 32] | None = None
    """Pixels of the image that one of its coarsest features' spans: dilation instead of stride,
    where the network knows it; none: its own."""

    @model_validator(mode="after")
    def _file_is_read(self) -> TimmConfig:
        if self.file is not None and not self.pretrained:
            raise ValueError("file: is not read with pretrained=false; leave one of the two out")
        return self


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
