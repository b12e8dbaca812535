"""From the arrays of samples to batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def images_tensor(
    images: Sequence[npt.NDArray[np.uint8]], device: torch.device | str = "cpu"
) -> Tensor:
    """Images of one size, uint8 [H, W, C] each -> uint8 [N, C, H, W]; the first three are RGB."""
    stacked = torch.from_numpy(np.stack(images)).to(device)
    return stacked.permute(0, 3, 1, 2).contiguous()


def labels_tensor(
    labels: Sequence[npt.NDArray[np.uint8]], device: torch.device | str = "cpu"
) -> Tensor:
    """Labels of one size, uint8 [H, W] each -> int64 [N, H, W]."""
    return torch.from_numpy(np.stack(labels)).to(device).long()
