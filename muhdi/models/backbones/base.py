"""What every backbone is: images in, features out.

A backbone takes plain RGB images (uint8, or float in 0..255) and owns their normalisation, so that
neither data code nor an exported model has to know it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from muhdi.errors import RecipeError
from muhdi.models.channels import widened
from muhdi.models.recompute import recomputed
from muhdi.models.undecayed import undecayed_parameters
from muhdi.recipe import plugins
from muhdi.recipe.backbones import BackboneConfig, DecoderName
from muhdi.recipe.section import RGB

Family = Literal["dilated", "pyramid", "plain"]


class FeatureInfo(NamedTuple):
    """One feature map: its channels, and how many pixels of the image one of its pixels spans."""

    channels: int
    stride: int


class Pretrained(NamedTuple):
    """Weights that a backbone starts from.

    Attributes:
        tensors: its own names and shapes.
        origin: what they are of, for messages.
        notes: what the user should know of them, such as a licence.
    """

    tensors: dict[str, Tensor]
    origin: str
    notes: list[str]


class Backbone(nn.Module):
    """What a `Segmenter` needs of a backbone.

    Attributes:
        config_class: the section of the recipe that describes it.
        features: what `forward` gives, from fine to coarse; the last two carry the heads' levels.
        dilations: dilations of the heads' convolutions that suit the resolution of the features.
        multiple: sides of images are padded to a multiple of this, and logits cut.
        padding: colour of what is padded, RGB in 0..255, and the value of further channels.
        image_channels: of the images that it takes.
        first_convolution: name of the convolution that images come to once they are normalised by
            ``normalise``, a `Normalise`, where `widen` may change both.
        family: ``dilated`` (the coarse features keep their resolution), ``pyramid``, or ``plain``
            (all features have one stride).
        decoder: what suits its features, where nobody chooses.
        frozen_affine: whether scale and shift of its batch norms stay while it trains.
        frozen: whether it stays in evaluation mode while the rest of the network trains.
        recomputes: whether it gives its blocks to `through`, so that they can be computed again.
        checkpointing: whether parts of it are computed again in the backward pass.
    """

    config_class: ClassVar[type[Any]] = BackboneConfig
    features: list[FeatureInfo]
    dilations: tuple[int, ...] = (1, 3, 6, 9)
    multiple: int = 1
    padding: tuple[float, ...] = (0.0, 0.0, 0.0)
    image_channels: int = RGB
    first_convolution: str | None = None
    normalise: Normalise
    family: Family = "dilated"
    decoder: DecoderName = "deeplab"
    frozen_affine: bool = False
    frozen: bool = False
    recomputes: bool = False
    checkpointing: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        plugins.register(cls)

    def train(self, mode: bool = True) -> Backbone:
        """As every module's, but for one that is frozen: it stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def widen(self, channels: int) -> None:
        """Take images of more than three channels.

        The first convolution gets weights for them, see `muhdi.models.channels.widened`. They are
        normalised by the means of what normalises red, green and blue.

        Args:
            channels: of the images.

        Raises:
            RecipeError: it takes images of another number of channels.
        """
        if channels == self.image_channels:
            return
        self._check_widens(channels, able=self.first_convolution is not None)
        assert self.first_convolution is not None
        first = self.get_submodule(self.first_convolution)
        assert isinstance(first, nn.Conv2d)
        first.weight = nn.Parameter(widened(first.weight.detach(), channels))
        first.in_channels = channels
        self._take(channels)

    def _check_widens(self, channels: int, *, able: bool) -> None:
        """Refuse images of more channels where the backbone does not take them."""
        if able and self.image_channels == RGB:
            return
        raise RecipeError(
            f"channels: {type(self).__name__} takes images of {self.image_channels} channels, not"
            f" of {channels}; choose another model.backbone, such as small, resnet50,"
            " efficientnet_lite0 or one of transformers (hf:) or timm (timm:)"
        )

    def _take(self, channels: int) -> None:
        """Normalise and pad images of more channels."""
        self.normalise.widen(channels)
        further = sum(self.padding) / RGB
        self.padding = (*self.padding, *[further] * (channels - RGB))
        self.image_channels = channels

    def checkpointed(self) -> None:
        """Keep less for the backward pass, and compute it again there: `model.checkpointing`.

        Raises:
            RecipeError: it cannot.
        """
        if not self.recomputes:
            raise RecipeError(
                f"model.checkpointing: {type(self).__name__} cannot compute its parts again; leave"
                " it out"
            )
        self.checkpointing = True

    @property
    def mask_token(self) -> nn.Parameter | None:
        """What its pretraining showed it in place of a patch; None: it knows no hidden patches."""
        return None

    def trains_mask_token(self, key: str) -> None:
        """Let its mask token be trained, as everything is that its features depend on.

        Args:
            key: of the recipe that asks for it, for the message.

        Raises:
            RecipeError: it has none.
        """
        token = self.mask_token
        if token is None:
            raise RecipeError(
                f"{key}: {type(self).__name__} has no mask token, as DINOv2 and DINOv3 of"
                " transformers have; set it to pixels"
            )
        token.requires_grad_(True)

    def hiding(self, images: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """As `forward`, with the mask token in place of some patches, in a network that has one.

        Args:
            images: [N, C, H, W], RGB 0..255.
            hidden: bool [N, rows, columns], which patches.
        """
        raise NotImplementedError

    def through(self, block: nn.Module, x: Tensor) -> Tensor:
        """What a block gives for ``x``, kept for the backward pass or computed again there."""
        if self.checkpointing:
            return recomputed(block, x)
        return block(x)  # type: ignore[no-any-return]

    def renamed(self, tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Weights in other projects' names of this network -> in its own names.

        None where they are not of that network.
        """
        return None

    def pretrained(self) -> Pretrained | None:
        """Weights that its section itself asks to start from; None where it asks for none."""
        return None

    def recorded(self, section: Any) -> Any:
        """Its section as a network's file keeps it: with all that building it again needs."""
        return section

    def undecayed(self) -> set[str]:
        """Names of its parameters that weight decay leaves alone, see `optimizer.decay_on`."""
        return undecayed_parameters(self)

    @property
    def depth(self) -> int:
        """Number of its layers, see `layer_of`."""
        return len(self._parts())

    def layer_of(self, parameter: str) -> int:
        """The layer of a parameter, for `optimizer.layer_decay`.

        Layers count from 0, the stem or embedding, to ``depth - 1``. The heads come after them, as
        layer ``depth``; so do parameters behind the last block, such as a last norm. A layer learns
        ``layer_decay ** (depth - layer)`` times as fast as without: the last block at
        ``layer_decay``, as in BEiT (Bao et al. 2022), whose block i is layer i + 1.

        Unless a backbone says more, each of its children that has parameters is a layer, in order,
        and what it holds itself, such as a token, belongs to the first.

        Args:
            parameter: its name in the backbone.
        """
        parts = self._parts()
        part = parameter.partition(".")[0]
        return parts.index(part) if part in parts else 0

    def _parts(self) -> list[str]:
        """Names of the children that have parameters."""
        return [
            name for name, child in self.named_children() if any(True for _ in child.parameters())
        ]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images [N, C, H, W], RGB 0..255 -> one map [N, K, h, w] for each of `features`.

        C is `image_channels`.
        """
        raise NotImplementedError


class FourStages(Backbone):
    """A backbone of a stem and the stages ``layer1`` to ``layer4``, as ResNets have them."""

    recomputes = True

    @property
    def depth(self) -> int:
        """The stem and four stages."""
        return 5

    def layer_of(self, parameter: str) -> int:
        """The stage from 1 to 4; 0 in the stem."""
        return number_after("layer", parameter) or 0


class Normalise(nn.Module):
    """(x - mean) / std per channel, on RGB values of 0..255.

    Args:
        mean: per channel, in the order of the network.
        std: the same.
        bgr: turn the channels round first, for networks that expect BGR.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], *, bgr: bool = False
    ) -> None:
        super().__init__()
        self.bgr = bgr
        self.memory_format = torch.contiguous_format
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def widen(self, channels: int) -> None:
        """Normalise images of more channels, the further ones by the means for the colours."""
        for name in ("mean", "std"):
            own = getattr(self, name)
            further = own.mean(1, keepdim=True).expand(-1, channels - RGB, -1, -1)
            self.register_buffer(name, torch.cat([own, further], 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(self.mean.dtype)
        if self.bgr:
            images = _turned_colours(images)
        normalised = (images - self.mean) / self.std
        if self.memory_format is not torch.contiguous_format:
            return normalised.contiguous(memory_format=self.memory_format)
        return normalised


def _turned_colours(images: Tensor) -> Tensor:
    """RGB -> BGR, in images or means [N, C, H, W]; channels beside the colours keep their place."""
    if images.shape[1] == RGB:
        return images.flip(1)
    return torch.cat([images[:, :RGB].flip(1), images[:, RGB:]], 1)


def mean_colour(backbone: nn.Module) -> Tensor:
    """What a backbone normalises to 0, [C] in 0..255, the first three RGB.

    Of one without a `Normalise` it is what it pads images with, or black.
    """
    for module in backbone.modules():
        if isinstance(module, Normalise):
            mean = _turned_colours(module.mean) if module.bgr else module.mean.clone()
            return mean.flatten()
    device = next(backbone.parameters()).device
    return torch.tensor(getattr(backbone, "padding", (0.0, 0.0, 0.0)), device=device)


def number_after(prefix: str, name: str) -> int | None:
    """The number that follows ``prefix`` at the start of a parameter's name; None without one."""
    found = re.match(rf"{re.escape(prefix)}(\d+)\.", name)
    return None if found is None else int(found[1])


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """What brings a block's shortcut to its channels and resolution; None where they agree."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
