"""A network of one batch norm and one 1x1 convolution, whose numbers can be computed by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from muhdi.models.outputs import AGNOSTIC
from muhdi.models.statistics import CHOICES
from muhdi.online.base import OnlineContext
from muhdi.recipe.online import read_online


class Tiny(nn.Module):
    """Logits (γ x + β, 0) of the first channel x; running mean 0 and variance 1, no epsilon."""

    classes = 2
    align_corners = False
    statistics_choices = CHOICES

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.BatchNorm2d(3, eps=0.0))
        self.decoder = nn.Identity()
        main = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            main.weight.zero_()
            main.bias.zero_()
            main.weight[0, 0] = 1
        self.heads = nn.ModuleDict({AGNOSTIC: nn.ModuleDict({"main": main})})
        self.requires_grad_(False)
        self.eval()

    @property
    def norm(self) -> nn.BatchNorm2d:
        return self.backbone[0]

    def segment(self, images: Tensor, head: str) -> Tensor:
        return self.heads[head].main(self.backbone(images.float()))


def image(*values: int) -> Tensor:
    """A row of pixels: uint8 [1, 3, 1, W], all channels alike."""
    return torch.tensor(values, dtype=torch.uint8).expand(1, 3, 1, len(values)).contiguous()


def online(network: nn.Module, method: str, used_with: str = "running", **options: Any) -> Any:
    """A method on a network."""
    return read_online(method, options).build(OnlineContext(network, AGNOSTIC, used_with))
