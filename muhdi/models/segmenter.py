"""The network: one backbone and named heads of two levels each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.models.backbones.base import Backbone, FeatureInfo
from muhdi.models.decoders import AsppSum, build_decoder, decode_each
from muhdi.models.outputs import AGNOSTIC, Levels, Outputs
from muhdi.models.statistics import CHOICES, batch_norms
from muhdi.recipe.backbones import BackboneConfig, DecoderName, read_backbone


class Head(nn.Module):
    """A classifier for each level.

    Args:
        aux: the map below the aux level; None: there is a single level.
        main: the map below the main level.
        classes: number of classes C.
        dilations: of the classifiers.
    """

    def __init__(
        self,
        aux: FeatureInfo | None,
        main: FeatureInfo,
        classes: int,
        dilations: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.aux = None if aux is None else AsppSum(aux.channels, classes, dilations)
        self.main = AsppSum(main.channels, classes, dilations)


class Segmenter(nn.Module):
    """A backbone, what the heads share, and the heads.

    The aux level stands on the backbone's last but one feature. The main level stands on what the
    decoder gives, or without one on the last feature.

    Args:
        backbone: gives the features.
        classes: number of classes C.
        heads: names of the heads, among them the agnostic one.
        multi_level: whether heads have an aux level.
        decoder: what heads share; None: what suits the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        heads: tuple[str, ...] = (AGNOSTIC,),
        *,
        multi_level: bool = True,
        decoder: DecoderName | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.multi_level = multi_level
        self.backbone = backbone
        self.decoder_name: DecoderName = decoder or backbone.decoder
        self.decoder = build_decoder(self.decoder_name, backbone.features)
        self.heads = nn.ModuleDict({name: self.new_head() for name in heads})
        self.decode = decode_each

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels of every head, aux first."""
        return ("aux", "main") if self.multi_level else ("main",)

    @property
    def statistics_choices(self) -> tuple[str, ...]:
        """Whose normalisation statistics it can use: a choice with batch norms alone."""
        return CHOICES if batch_norms(self) else ("none",)

    def new_head(self) -> Head:
        """A head with random weights, on the device of the network."""
        aux, last = self.backbone.features[-2:]
        head = Head(
            aux if self.multi_level else None,
            last if self.decoder is None else self.decoder.output,
            self.classes,
            self.backbone.dilations,
        )
        return head.to(next(self.backbone.parameters()).device)

    def set_heads(self, heads: dict[str, nn.Module]) -> None:
        """Have these heads, the agnostic one first, and no others."""
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> Outputs:
        """Images [N, 3, H, W], RGB, uint8 or float in 0..255 -> logits of every head, and features.

        Where the backbone needs sides that are multiples, images are padded at the right and at the
        bottom, and logits and features are cut accordingly. What the decoder gives is the last of
        the features.
        """
        features = self._features(images)
        names = list(self.heads)
        aux: list[Tensor | None] = [None] * len(names)
        if self.multi_level:
            aux = list(self.decode(self._classifiers("aux"), features[-2]))
        if self.decoder is not None:
            features = (*features, self.decoder(features))
        main = self.decode(self._classifiers("main"), features[-1])
        levels = {name: Levels(aux[i], main[i]) for i, name in enumerate(names)}
        return Outputs(levels, features)

    def segment(self, images: Tensor, head: str = AGNOSTIC) -> Tensor:
        """Images [N, 3, H, W] -> low-resolution main logits [N, C, h, w] of one head."""
        features = self._features(images)
        last = features[-1] if self.decoder is None else self.decoder(features)
        return self.decode([self.heads[head].main], last)[0]  # type: ignore[list-item]

    def _classifiers(self, level: str) -> list[AsppSum]:
        return [getattr(head, level) for head in self.heads.values()]

    def _features(self, images: Tensor) -> tuple[Tensor, ...]:
        multiple = self.backbone.multiple
        if multiple == 1:
            features: tuple[Tensor, ...] = self.backbone(images)
            return features
        height, width = images.shape[-2:]
        # Without asking whether there is anything to pad: an exported network takes any size.
        bottom = -height % multiple
        right = -width % multiple
        padded = self.backbone(F.pad(images, (0, right, 0, bottom)))
        cut: list[Tensor] = []
        for feature, info in zip(padded, self.backbone.features, strict=True):
            # Rounded up: the last pixel of a feature may span padding, too.
            rows = -(-height // info.stride)
            columns = -(-width // info.stride)
            cut.append(_first(_first(feature, -2, rows), -1, columns))
        return tuple(cut)


def _first(feature: Tensor, dimension: int, count: int) -> Tensor:
    """The first ``count`` lines of a map; a slice's bounds would fix sizes in an export."""
    return feature.index_select(dimension, torch.arange(count, device=feature.device))


def build_segmenter(
    backbone: BackboneConfig | str,
    classes: int,
    heads: tuple[str, ...] = (AGNOSTIC,),
    *,
    multi_level: bool = True,
    decoder: DecoderName | None = None,
) -> Segmenter:
    """A network with random weights; ``backbone`` is a section of a recipe, or a name."""
    section = read_backbone(backbone) if isinstance(backbone, str) else backbone
    return Segmenter(section.build(), classes, heads, multi_level=multi_level, decoder=decoder)
