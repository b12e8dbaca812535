"""From features to logits: what heads share, the decoder, and what each has, classifiers."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.errors import RecipeError
from muhdi.models.backbones.base import Backbone, Family, FeatureInfo
from muhdi.recipe.backbones import DecoderConfig

DROPOUT = 0.1
"""Share of the channels that decoders drop before the classifiers, as SegFormer and DAFormer do."""


class AsppSum(nn.Module):
    """Sum of dilated 3x3 convolutions, one per dilation (DeepLab-v2's ASPP without fusion)."""

    def __init__(self, channels: int, classes: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.convs = nn.ModuleList(nn.Conv2d(channels, classes, 3, 1, d, d) for d in dilations)
        for weight in self.weights():
            nn.init.normal_(weight, 0.0, 0.01)

    def weights(self) -> list[Tensor]:
        """One weight [C, K, 3, 3] per dilation."""
        return [conv.get_parameter("weight") for conv in self.convs]

    def bias(self) -> Tensor:
        """The sum of the dilations' biases, [C]."""
        # One after another: the gradient of a stacked sum would be one storage for all of them, to
        # which the second backward pass of an iteration would add once per bias.
        first, *others = (conv.get_parameter("bias") for conv in self.convs)
        total: Tensor = first
        for bias in others:
            total = total + bias
        return total

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, K, h, w] -> logits [N, C, h, w]."""
        first, *others = self.convs
        logits: Tensor = first(x)
        for conv in others:
            logits = logits + conv(x)
        return logits


def classify_each(classifiers: list[nn.Module], x: Tensor) -> list[Tensor]:
    """Logits [N, C, h, w] of several classifiers on one map [N, K, h, w], one after another."""
    return [classifier(x) for classifier in classifiers]


class Decoder(nn.Module):
    """What heads share, between the backbone's features and the main level's classifiers.

    Attributes:
        families: of backbones whose features suit it.
        align_corners: how its logits are enlarged to the size of images: whether the corner pixels
            of both coincide (DeepLab-v2), or the corners of the images do (all later networks).
        channels: of the map below the main level.
    """

    families: ClassVar[tuple[Family, ...]] = ("dilated", "pyramid")
    align_corners: ClassVar[bool] = False
    channels: int

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The backbone's features, and what is made of them: the last is below the main level."""
        raise NotImplementedError

    def main_classifier(self, classes: int) -> nn.Module:
        """A main level: map [N, `channels`, h, w] -> logits [N, C, h, w]."""
        return nn.Conv2d(self.channels, classes, 1)

    def aux_classifier(self, feature: FeatureInfo, classes: int) -> nn.Module:
        """An aux level, on the backbone's last but one feature."""
        return nn.Conv2d(feature.channels, classes, 1)


class DeepLab(Decoder):
    """Nothing: heads stand on the backbone's last two features (DeepLab-v2, Chen et al. 2017)."""

    families = ("dilated", "pyramid", "plain")
    align_corners = True

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        super().__init__()
        self.channels = backbone.features[-1].channels
        self.dilations = backbone.dilations

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return features

    def main_classifier(self, classes: int) -> nn.Module:
        return AsppSum(self.channels, classes, self.dilations)

    def aux_classifier(self, feature: FeatureInfo, classes: int) -> nn.Module:
        return AsppSum(feature.channels, classes, self.dilations)


class Lateral(Decoder):
    """All features brought to the finest one, summed and mixed: cheap, for pyramids.

    A 1x1 convolution with batch norm for each feature, bilinear enlargement, the sum, a depthwise
    3x3 and a 1x1 convolution, batch norm, ReLU.
    """

    # The convolutions of its backbones pad both sides alike: their corner pixels lie on the
    # image's first corner, and it makes no difference elsewhere.
    align_corners = True

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        super().__init__()
        self.channels = width or 64
        self.dilations = backbone.dilations
        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(feature.channels, self.channels, 1, bias=False),
                nn.BatchNorm2d(self.channels),
            )
            for feature in backbone.features
        )
        self.mix = nn.Sequential(
            nn.Conv2d(self.channels, self.channels, 3, 1, 1, groups=self.channels, bias=False),
            nn.Conv2d(self.channels, self.channels, 1, bias=False),
            nn.BatchNorm2d(self.channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *coarser = features
        total: Tensor = self.laterals[0](first)
        for lateral, feature in zip(self.laterals[1:], coarser, strict=True):
            total = total + enlarged_to(lateral(feature), first)
        return (*features, self.mix(total))

    def main_classifier(self, classes: int) -> nn.Module:
        return AsppSum(self.channels, classes, self.dilations)

    def aux_classifier(self, feature: FeatureInfo, classes: int) -> nn.Module:
        return AsppSum(feature.channels, classes, self.dilations)


class Embeddings(nn.Module):
    """Every feature projected to one width, enlarged to the finest, and concatenated.

    [N, K_i, h_i, w_i] for each feature -> [N, width x features, h_0, w_0].
    """

    def __init__(self, features: list[FeatureInfo], width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Conv2d(feature.channels, width, 1) for feature in features
        )

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        embedded = [
            enlarged_to(projection(feature), features[0])
            for projection, feature in zip(self.projections, features, strict=True)
        ]
        return torch.cat(embedded, 1)


class SegFormer(Decoder):
    """SegFormer's all-MLP decoder (Xie et al. 2021, section 3.2): for pyramids.

    The embedded features, a 1x1 convolution with batch norm and ReLU, dropout. The published widths
    are 256 with MiT-B0 and B1 and 768 with the larger ones.
    """

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        super().__init__()
        self.channels = width or 256
        inputs = self.channels * len(backbone.features)
        self.embeddings = Embeddings(backbone.features, self.channels)
        self.fuse = _convolution(inputs, self.channels, 1)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*features, self.dropout(self.fuse(self.embeddings(features))))


class DAFormer(Decoder):
    """DAFormer's context-aware fusion (Hoyer et al. 2022, section 3.2): for pyramids.

    The embedded features; side by side a 1x1 convolution and depthwise separable 3x3 ones with
    dilations of 6, 12 and 18; a 3x3 convolution over all of them; dropout. Every convolution has
    batch norm and ReLU.
    """

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        super().__init__()
        self.channels = width or 256
        inputs = self.channels * len(backbone.features)
        self.embeddings = Embeddings(backbone.features, self.channels)
        branches: list[nn.Module] = [_convolution(inputs, self.channels, 1)]
        for dilation in (6, 12, 18):
            depthwise = _convolution(inputs, inputs, 3, dilation, groups=inputs)
            branches.append(nn.Sequential(depthwise, _convolution(inputs, self.channels, 1)))
        self.branches = nn.ModuleList(branches)
        self.fuse = _convolution(len(branches) * self.channels, self.channels, 3)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        embedded = self.embeddings(features)
        context = torch.cat([branch(embedded) for branch in self.branches], 1)
        return (*features, self.dropout(self.fuse(context)))


class Light(Decoder):
    """VFM-UDA's decoder (Englert et al. 2024): the last layer of a plain transformer, enlarged.

    Two transposed 2x2 convolutions, each of which halves the channels, with a norm over the
    channels and GELU in between, then a 3x3 convolution and norms. It has no batch norms.
    """

    families = ("plain",)

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        super().__init__()
        inputs = backbone.features[-1].channels
        self.channels = inputs // 4
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(inputs, inputs // 2, 2, 2),
            ChannelNorm(inputs // 2),
            nn.GELU(),
            nn.ConvTranspose2d(inputs // 2, self.channels, 2, 2),
            ChannelNorm(self.channels),
            nn.Conv2d(self.channels, self.channels, 3, 1, 1),
            ChannelNorm(self.channels),
        )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*features, self.enlarge(features[-1]))

    def main_classifier(self, classes: int) -> nn.Module:
        classifier = nn.Conv2d(self.channels, classes, 1, bias=False)
        nn.init.normal_(classifier.weight, 0.0, 0.1)
        return classifier


class Linear(Decoder):
    """All layers of a plain transformer side by side: a linear classifier on each of its patches.

    Concatenation, batch norm, dropout, as DINOv2 and DINOv3 are probed.
    """

    families = ("plain",)

    def __init__(self, backbone: Backbone, width: int | None) -> None:
        super().__init__()
        self.channels = sum(feature.channels for feature in backbone.features)
        self.norm = nn.BatchNorm2d(self.channels)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*features, self.dropout(self.norm(torch.cat(features, 1))))


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every pixel of a map [N, K, h, w]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _convolution(
    inputs: int, outputs: int, kernel: int, dilation: int = 1, *, groups: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def enlarged_to(x: Tensor, finest: Tensor) -> Tensor:
    """A map [N, K, h, w], bilinear at the size of another one."""
    size = [finest.shape[2], finest.shape[3]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


_DECODERS: dict[str, type[Decoder]] = {
    "deeplab": DeepLab,
    "lateral": Lateral,
    "segformer": SegFormer,
    "daformer": DAFormer,
    "light": Light,
    "linear": Linear,
}


def build_decoder(config: DecoderConfig, backbone: Backbone) -> Decoder:
    """The decoder of a network.

    Raises:
        RecipeError: the backbone's features do not suit it.
    """
    decoder = _DECODERS[config.name]
    if backbone.family not in decoder.families:
        fitting = [name for name, one in _DECODERS.items() if backbone.family in one.families]
        strides = ", ".join(f"{feature.stride}" for feature in backbone.features)
        raise RecipeError(
            f"model.decoder: {config.name} does not suit a {backbone.family} backbone, whose"
            f" features have strides of {strides}; take one of {', '.join(fitting)}"
        )
    return decoder(backbone, config.width)
