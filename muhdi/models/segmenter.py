"""The network: one backbone and named heads of two levels each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.backbones.base import Backbone
from muhdi.models.decoders import Decoder, build_decoder, classify_each
from muhdi.models.hidden_tokens import HiddenTokens
from muhdi.models.outputs import AGNOSTIC, Levels, Outputs
from muhdi.models.statistics import CHOICES, batch_norms
from muhdi.recipe.backbones import BackboneConfig, DecoderConfig, DecoderName, read_backbone
from muhdi.recipe.section import RGB


class Head(nn.Module):
    """A classifier for each level.

    Args:
        aux: on the backbone's last but one feature; None: there is a single level.
        main: on what the decoder gives.
    """

    def __init__(self, aux: nn.Module | None, main: nn.Module) -> None:
        super().__init__()
        self.aux = aux
        self.main = main


class Segmenter(nn.Module):
    """A backbone, what the heads share, and the heads.

    The aux level stands on the backbone's last but one feature, the main level on what the decoder
    gives.

    Args:
        backbone: gives the features.
        classes: number of classes C.
        heads: names of the heads, among them the agnostic one.
        multi_level: whether heads have an aux level.
        decoder: what heads share; None: what suits the backbone.

    Raises:
        RecipeError: the decoder does not suit the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        heads: tuple[str, ...] = (AGNOSTIC,),
        *,
        multi_level: bool = True,
        decoder: DecoderConfig | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.multi_level = multi_level
        self.backbone = backbone
        self.decoder_config = decoder or DecoderConfig(name=backbone.decoder)
        self.decoder: Decoder = build_decoder(self.decoder_config, backbone)
        self.heads = nn.ModuleDict({name: self.new_head() for name in heads})
        self.classify = classify_each

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels of every head, aux first."""
        return ("aux", "main") if self.multi_level else ("main",)

    @property
    def statistics_choices(self) -> tuple[str, ...]:
        """Whose normalisation statistics it can use: a choice with batch norms alone."""
        return CHOICES if batch_norms(self) else ("none",)

    @property
    def channels(self) -> int:
        """Channels C of the images that it takes."""
        return self.backbone.image_channels

    @property
    def align_corners(self) -> bool:
        """How its logits are enlarged, see `muhdi.losses.upsample`."""
        return self.decoder.align_corners

    @property
    def hidden_tokens(self) -> HiddenTokens:
        """How images say which of their tokens are hidden, to a backbone with a mask token."""
        return HiddenTokens(self.backbone.features[-1].stride, self.channels)

    def new_head(self) -> Head:
        """A head with random weights, on the device of the network."""
        aux: nn.Module | None = None
        if self.multi_level:
            aux = self.decoder.aux_classifier(self.backbone.features[-2], self.classes)
        head = Head(aux, self.decoder.main_classifier(self.classes))
        return head.to(next(self.backbone.parameters()).device)

    def set_heads(self, heads: dict[str, nn.Module]) -> None:
        """Have these heads, the agnostic one first, and no others."""
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> Outputs:
        """Images [N, C, H, W], RGB, uint8 or float in 0..255 -> logits of every head, and features.

        C is `channels`. One more channel says which tokens are hidden, see `hidden_tokens`.

        Where the backbone needs sides that are multiples, images are padded at the right and at the
        bottom, and logits are brought to what spans the image; features are not. Where the decoder
        gives a map of its own, that is the last of the features.
        """
        features = self.features(images)
        names = list(self.heads)
        aux: list[Tensor | None] = [None] * len(names)
        if self.multi_level:
            aux = list(self._logits("aux", names, features[-2], images))
        decoded = self.decoder(features)
        main = self._logits("main", names, decoded[-1], images)
        levels = {name: Levels(aux[i], main[i]) for i, name in enumerate(names)}
        return Outputs(levels, decoded, align_corners=self.align_corners)

    def segment(self, images: Tensor, head: str = AGNOSTIC) -> Tensor:
        """Images [N, C, H, W] -> low-resolution main logits [N, C, h, w] of one head."""
        decoded = self.decoder(self.features(images))
        return self._logits("main", [head], decoded[-1], images)[0]

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [N, C, H, W] -> what the backbone gives, from fine to coarse."""
        shown, hidden = self.hidden_tokens.split(images)
        if hidden is not None:
            return self.backbone.hiding(self._padded(shown), hidden)
        features: tuple[Tensor, ...] = self.backbone(self._padded(shown))
        return features

    def _padded(self, images: Tensor) -> Tensor:
        if self.backbone.multiple == 1:
            return images
        height, width = images.shape[-2:]
        # Without asking whether there is anything to pad: an exported network takes any size.
        sides = (0, self._padded_side(width) - width, 0, self._padded_side(height) - height)
        channels = [
            F.pad(images[:, channel : channel + 1], sides, value=round(value))
            for channel, value in enumerate(self.backbone.padding)
        ]
        return torch.cat(channels, 1)

    def _padded_side(self, side: int) -> int:
        """The next multiple, as a product: so an export knows that it is one."""
        multiple = self.backbone.multiple
        return (side + multiple - 1) // multiple * multiple

    def _logits(self, level: str, heads: list[str], x: Tensor, images: Tensor) -> list[Tensor]:
        """Logits of one level of some heads, without what lies on padding alone."""
        classifiers = [getattr(self.heads[name], level) for name in heads]
        logits = self.classify(classifiers, x)
        if self.backbone.multiple == 1:
            return logits
        return [self._cut(self._cut(one, images, -2), images, -1) for one in logits]

    def _cut(self, logits: Tensor, images: Tensor, dimension: int) -> Tensor:
        """Lines that span the image and nothing of the padding.

        Where the padding is no whole number of lines they are interpolated between those that are
        there; else they are those.
        """
        side = images.shape[dimension]
        padded = self._padded_side(side)
        whole = logits.shape[dimension]
        # No negative number is divided: ONNX rounds that towards 0.
        lines = whole - (padded - side) * whole // padded
        # Sizes as tensors: conditions on their quotients would fix them in an export.
        shown, through, given, wanted = (
            torch.scalar_tensor(size, device=logits.device) for size in (side, padded, whole, lines)
        )
        place = torch.arange(lines, device=logits.device)
        if self.align_corners:
            scale = (shown - 1) / (through - 1) * ((given - 1) / (wanted - 1).clamp(min=1))
            place = place * scale
        else:
            scale = shown / through * (given / wanted)
            place = (place + 0.5) * scale - 0.5
        place = torch.minimum(place.clamp(min=0), given - 1)
        before = place.floor().long()
        after = torch.minimum(before + 1, given.long() - 1)
        fraction = (place - before).to(logits.dtype)
        if dimension == -2:
            fraction = fraction[:, None]
        lower = logits.index_select(dimension, before)
        upper = logits.index_select(dimension, after)
        return lower + fraction * (upper - lower)


def build_segmenter(
    backbone: BackboneConfig | str,
    classes: int,
    heads: tuple[str, ...] = (AGNOSTIC,),
    *,
    multi_level: bool = True,
    decoder: DecoderConfig | DecoderName | None = None,
    channels: int = RGB,
) -> Segmenter:
    """A network with random weights.

    Args:
        backbone: a section of a recipe, or a name.
        classes: number of classes C.
        heads: names of the heads.
        multi_level: whether they have an aux level.
        decoder: a section of a recipe, a name, or None: what suits the backbone.
        channels: of its images.

    Raises:
        RecipeError: there is no such backbone, it does not take so many channels, or the decoder
            does not suit it.
    """
    section = read_backbone(backbone) if isinstance(backbone, str) else backbone
    config = DecoderConfig(name=decoder) if isinstance(decoder, str) else decoder
    built: Backbone = section.build()
    built.widen(channels)
    return Segmenter(built, classes, heads, multi_level=multi_level, decoder=config)
