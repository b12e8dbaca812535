"""Small steps between samples and tensors that many rooms need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def spread_indices(length: int, count: int) -> list[int]:
    """Up to ``count`` different indices, spread evenly over 0..length - 1."""
    positions = np.linspace(0, length - 1, min(count, length)).round().astype(int)
    indices: list[int] = np.unique(positions).tolist()
    return indices


def images_tensor(
    images: Sequence[npt.NDArray[np.uint8]], device: torch.device | str = "cpu"
) -> Tensor:
    """Images of one size, uint8 RGB [H, W, 3] each -> uint8 [N, 3, H, W]."""
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2).contiguous()
