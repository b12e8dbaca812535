"""From features to logits."""

from __future__ import annotations

from torch import Tensor, nn


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


def decode_each(decoders: list[AsppSum], x: Tensor) -> list[Tensor]:
    """Logits [N, C, h, w] of several decoders on one map [N, K, h, w], one after another."""
    return [decoder(x) for decoder in decoders]
