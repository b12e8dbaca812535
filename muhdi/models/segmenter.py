"""The network: one backbone and named heads of two levels each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import NamedTuple

from torch import Tensor, nn

from muhdi.losses import upsample
from muhdi.models.backbones.resnet import BACKBONES, Backbone
from muhdi.models.decoders import Classifier, classify

AGNOSTIC = "agnostic"
"""The head that is the model's output; it must serve every domain."""

SPECIALIST = "specialist"
"""The head that learns the current target, with MuHDi."""


class Levels(NamedTuple):
    """Logits of one head at low resolution, [N, C, h, w].

    ``aux`` after stage 3, ``main`` after stage 4.

    ``aux`` is None in a network of a single level.
    """

    aux: Tensor | None
    main: Tensor

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """The levels that there are by name, aux first."""
        return (
            (("main", self.main),) if self.aux is None else (("aux", self.aux), ("main", self.main))
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Levels:
        """``function`` of every level."""
        return Levels(None if self.aux is None else function(self.aux), function(self.main))

    def upsampled(self, size: tuple[int, int]) -> Levels:
        """Every level at ``size`` (height, width)."""
        return self.map(lambda logits: upsample(logits, size))

    def detach(self) -> Levels:
        """Every level, cut off from the graph."""
        return self.map(Tensor.detach)


class Outputs(NamedTuple):
    """What one forward pass gives: logits per head, and the outputs of the four stages."""

    heads: dict[str, Levels]
    stages: tuple[Tensor, ...]


class Head(nn.Module):
    """One classifier on stage 3 (aux), unless there is a single level, and one on stage 4 (main)."""

    def __init__(
        self,
        channels: tuple[int, int],
        classes: int,
        dilations: tuple[int, ...],
        *,
        multi_level: bool = True,
    ) -> None:
        super().__init__()
        self.aux = Classifier(channels[0], classes, dilations) if multi_level else None
        self.main = Classifier(channels[1], classes, dilations)


class Segmenter(nn.Module):
    """A backbone and its heads.

    Args:
        backbone: the feature extractor.
        classes: number of classes C.
        heads: names of the heads, among them the agnostic one.
        multi_level: whether heads have an aux level.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        heads: tuple[str, ...] = (AGNOSTIC,),
        *,
        multi_level: bool = True,
    ) -> None:
        super().__init__()
        self.classes, self.multi_level = classes, multi_level
        self.backbone = backbone
        self.heads = nn.ModuleDict({name: self._new_head() for name in heads})

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels of every head, aux first."""
        return ("aux", "main") if self.multi_level else ("main",)

    def _new_head(self) -> Head:
        return Head(
            self.backbone.channels,
            self.classes,
            self.backbone.dilations,
            multi_level=self.multi_level,
        )

    def forward(self, images: Tensor) -> Outputs:
        """Images [N, 3, H, W], RGB, uint8 or float in 0..255 -> logits of every head and the stage outputs."""
        stages = self.backbone(images)
        heads: dict[str, Head] = dict(self.heads.items())  # type: ignore[arg-type]
        main = classify([head.main for head in heads.values()], stages[3])
        aux: Sequence[Tensor | None] = [None] * len(heads)
        if self.multi_level:
            aux = classify([head.aux for head in heads.values() if head.aux is not None], stages[2])
        return Outputs({name: Levels(aux[i], main[i]) for i, name in enumerate(heads)}, stages)

    def segment(self, images: Tensor, head: str = AGNOSTIC) -> Tensor:
        """Images [N, 3, H, W] -> low-resolution main logits [N, C, h, w] of one head."""
        return classify([self.heads[head].main], self.backbone(images)[3])[0]  # type: ignore[list-item]

    def set_heads(self, names: tuple[str, ...], start: str = "copy") -> None:
        """Have the heads ``names``, the agnostic one first, at the start of a step.

        Args:
            names: of the heads; there will be no others.
            start: ``copy``: the agnostic head stays, every other one is its copy. ``reference``: as
                the published code restores a checkpoint (`e_restore_mapping` of its golden
                numbers): a specialist that there is stays, and the agnostic head becomes its copy;
                one that there is not starts at random.
        """
        old = dict(self.heads.items())
        agnostic = old[AGNOSTIC]
        if start == "copy" or SPECIALIST not in names:
            heads = {name: agnostic if name == AGNOSTIC else deepcopy(agnostic) for name in names}
        elif SPECIALIST in old:
            heads = {AGNOSTIC: deepcopy(old[SPECIALIST]), SPECIALIST: old[SPECIALIST]}
        else:
            device = next(agnostic.parameters()).device
            heads = {AGNOSTIC: agnostic, SPECIALIST: self._new_head().to(device)}
        self.heads = nn.ModuleDict(heads)


def build_segmenter(
    backbone: str, classes: int, heads: tuple[str, ...] = (AGNOSTIC,), *, multi_level: bool = True
) -> Segmenter:
    """A freshly initialised network; ``backbone`` is a name of `BACKBONES`."""
    return Segmenter(BACKBONES[backbone](), classes, heads, multi_level=multi_level)
