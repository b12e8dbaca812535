"""A predictor rebuilt from the plainest operations, for formats that other programs run.

The network's own ways of computing are chosen for speed in PyTorch on a CPU: dilated 1x1
convolutions, one matrix product with shifts (``fold``) for all convolutions of a head, channels
last. The plain network has the same weights and computes the same function, up to rounding.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muhdi.deploy.predictor import Predictor
from muhdi.models.backbones.resnet import Backbone, Pointwise
from muhdi.models.decoders import Classifier
from muhdi.models.segmenter import Head

Output = Literal["logits", "classes"]


class PlainPredictor(nn.Module):
    """uint8 RGB images [N, 3, H, W] -> logits float32 [N, C, H, W], or classes uint8 [N, H, W], at their size.

    Args:
        predictor: stays as it is.
        output: which of the two.
    """

    def __init__(self, predictor: Predictor, output: Output = "logits") -> None:
        super().__init__()
        head = predictor.model.heads[predictor.head]
        assert isinstance(head, Head)
        self.output = output
        self.backbone: Backbone = _plain(deepcopy(predictor.model.backbone))
        self.classifier: Classifier = deepcopy(head.main)
        self.eval().cpu()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.classifier(self.backbone(images)[3])
        size = [images.shape[2], images.shape[3]]
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
        return logits.argmax(1).to(torch.uint8) if self.output == "classes" else logits


class _RoundedUpPool(nn.Module):
    """The ResNet's max pool, 3x3 with stride 2, padding 1 and sizes rounded up, for maps of any size.

    Rounding up is one more line of padding on the far sides; what comes from a ReLU may be padded
    with 0.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (1, 2, 1, 2)), 3, 2)


def _plain(backbone: Backbone) -> Backbone:
    """Replace dilated 1x1 convolutions by undilated ones of the same weights, and pools whose sizes are rounded up."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if isinstance(child, Pointwise):
                stride = (child.stride[0], child.stride[1])
                plain = nn.Conv2d(child.in_channels, child.out_channels, 1, stride, bias=False)
                plain.weight = child.weight
                setattr(module, name, plain)
            elif isinstance(child, nn.MaxPool2d) and child.ceil_mode:
                assert (child.kernel_size, child.stride, child.padding) == (3, 2, 1)
                setattr(module, name, _RoundedUpPool())
    return backbone
