"""Which pixels of training images are of their images, and not padding or margin."""

from __future__ import annotations

import torch
from torch import Tensor

from muhdi.passes import Batch
from muhdi.recipe.pseudo_labels import MarginConfig

NO_MARGINS = MarginConfig()


def inside(batch: Batch, margins: MarginConfig = NO_MARGINS) -> Tensor:
    """1 for pixels that lie inside the margins of their whole images, 0 for others, [N, H, W].

    Padding lies outside.
    """
    height, width = batch.size
    device = batch.images.device
    windows = batch.windows
    if windows is None:
        windows = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device)
    left, upper, right, lower = windows.T[:, :, None]
    across = (torch.arange(width, device=device) + 0.5) / width
    down = (torch.arange(height, device=device) + 0.5) / height
    # Where the centre of each column and row lies in the whole image.
    x = left + (right - left) * across
    y = upper + (lower - upper) * down
    columns = (x > margins.left) & (x < 1 - margins.right)
    rows = (y > margins.top) & (y < 1 - margins.bottom)
    seen: Tensor = (rows[:, :, None] & columns[:, None, :]).float()
    return seen.expand(len(batch.images), height, width)
