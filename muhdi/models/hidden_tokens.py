"""Which tokens of a plain transformer are hidden, said by one more channel of its images.

Images are all that reaches a network. So what is hidden goes with them: through the parts of a
batch, to any device, and by whatever calls the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from muhdi.recipe.section import RGB


@dataclass(frozen=True)
class HiddenTokens:
    """Writes and reads the further channel.

    Attributes:
        patch: side in pixels of the patch that becomes a token.
        channels: C, of an image that says nothing of hidden tokens.
    """

    patch: int
    channels: int = RGB

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of an image of this height and width, once padded."""
        height, width = size
        return _patches(height, self.patch), _patches(width, self.patch)

    def hide(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Images that say which of their tokens are hidden.

        Args:
            images: float [N, C, H, W].
            hidden: bool [N, rows, columns], of the `grid`.

        Returns:
            [N, C + 1, H, W]; the last channel is 1 in hidden patches, and 0 in others.
        """
        height, width = images.shape[-2:]
        rows = hidden.to(images.dtype).repeat_interleave(self.patch, 1)
        channel = rows.repeat_interleave(self.patch, 2)[:, :height, :width]
        return torch.cat([images, channel[:, None]], 1)

    def split(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images [N, C, H, W], and which tokens are hidden, bool [N, rows, columns].

        None where the images do not say.
        """
        if images.shape[1] == self.channels:
            return images, None
        # The first pixel of each patch lies in the image, even where the last patch is padded.
        channel = images[:, self.channels, :: self.patch, :: self.patch]
        return images[:, : self.channels], channel > 0.5


def _patches(side: int, patch: int) -> int:
    """Patches that a side of an image needs, the last one padded."""
    return -(-side // patch)


@contextmanager
def given(part: nn.Module, **arguments: Any) -> Iterator[None]:
    """Inside, a part of a network gets these arguments, whatever else it is called with."""

    def added(_: nn.Module, positional: Any, known: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return positional, {**known, **arguments}

    hook = part.register_forward_pre_hook(added, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
